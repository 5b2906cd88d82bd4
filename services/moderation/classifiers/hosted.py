"""What stands around every hosted classifier: deadline, breaker, bounded calls, pictures that fit, metrics.

No call is repeated here: a job waits while its judgement is unavailable, and the router asks again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from mesh import imaging, telemetry
from mesh.errors import Unavailable
from services.moderation.breaker import Breaker
from services.moderation.classifiers.base import Capability, Picture, Plugged
from services.moderation.classifiers.calling import Caller, CallError
from services.moderation.classifiers.fitting import fitted
from services.moderation.classifiers.vendor import Ask, Label, Meanings, Vendor, counted
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Finding, Span, Text

AT_ONCE = 16  # calls to one service; further ones wait their turn within their deadline
WAITING = 2.0  # seconds that a judgement may take beyond those of its call
OVERLAP = 200  # characters that two pieces of a long text share
ABOUT_THE_CONTENT = frozenset({400, 413, 415, 422})  # say nothing about the service's health

Read = Callable[[bytes], Sequence[Label]]

log = telemetry.logger(__name__)
calls = telemetry.counter("imagemesh.moderation.classifier.calls", "{call}", "Calls to hosted classifiers by outcome.")
seconds = telemetry.histogram("imagemesh.moderation.classifier.duration", "s", "How long hosted classifiers take.")


class Line:
    """The way to one service, shared by what judges texts and what judges pictures there."""

    def __init__(self, name: str, caller: Caller, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._caller = caller
        self._timeout = timeout
        self._clock = clock
        self._breaker = Breaker(clock)
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def check(self) -> None:
        """Raises Unavailable while the breaker is open."""
        if self._breaker.is_open:
            raise Unavailable(f"the classifier {self.name} failed too often", retry_after=self._breaker.wait)

    async def labels(self, ask: Ask, read: Read) -> Sequence[Label]:
        """The labels in the answer. Raises Unavailable whatever went wrong; the log has the reason."""
        async with self._slots:
            entry = self._breaker.enter()
            if entry is None:
                raise self._failed("breaker-open", self._breaker.wait)
            started, healthy, outcome = self._clock(), None, "canceled"
            try:
                healthy, outcome, labels = await self._answer(ask, read)
            finally:
                self._breaker.leave(entry, healthy)
                calls.add(1, {"classifier": self.name, "outcome": outcome})
                seconds.record(self._clock() - started, {"classifier": self.name, "outcome": outcome})
        if labels is None:
            raise self._failed(outcome, 1.0)
        return labels

    async def _answer(self, ask: Ask, read: Read) -> tuple[bool | None, str, Sequence[Label] | None]:
        """Whether it is well (None: cannot be told), what happened in a word, and the labels."""
        try:
            answer = await self._caller.post(ask, self._timeout)
        except TimeoutError:
            return False, "timeout", None
        except CallError as error:
            log.warning("a classifier cannot be reached", classifier=self.name, reason=str(error))
            return False, "unreachable", None
        if answer.status != 200:
            log.warning("a classifier refuses", classifier=self.name, status=answer.status)
            return (None if answer.status in ABOUT_THE_CONTENT else False), f"status-{answer.status}", None
        try:
            return True, "ok", read(answer.body)
        except ValueError:
            log.warning("a classifier's answer cannot be understood", classifier=self.name, bytes=len(answer.body))
            return False, "wrong-answer", None

    def _failed(self, reason: str, wait: float) -> Unavailable:
        return Unavailable(f"the classifier {self.name} does not answer ({reason})", retry_after=max(wait, 0.1))


class HostedTexts:
    """A vendor's judgement of texts behind the port."""

    def __init__(self, vendor: Vendor, plug_in: PlugIn, line: Line) -> None:
        self.name = plug_in.name
        self.capability = _capability(vendor, plug_in, vendor.text_labels)
        self._vendor = vendor
        self._line = line

    async def judge(self, texts: Sequence[Text]) -> Sequence[Finding]:
        """What it finds in each of the texts."""
        pieces = [(text, start) for text in texts for start in _starts(len(text.text), self._vendor.longest)]
        found = await asyncio.gather(*(self._piece(text, start) for text, start in pieces))
        return [finding for some in found for finding in some]

    async def _piece(self, text: Text, start: int) -> list[Finding]:
        piece = text.text[start : start + self._vendor.longest]
        labels = await self._line.labels(self._vendor.ask_text(piece), self._vendor.read_text)
        span = Span(text.index, text.kind, start, start + len(piece))
        return list(counted((self.name, self._vendor.version), self._vendor.text_labels, labels, span))

    async def close(self) -> None:
        """Holds nothing of its own."""


class HostedPictures:
    """A vendor's judgement of pictures behind the port."""

    def __init__(self, vendor: Vendor, plug_in: PlugIn, line: Line) -> None:
        self.name = plug_in.name
        self.capability = _capability(vendor, plug_in, vendor.picture_labels)
        self._vendor = vendor
        self._line = line

    async def judge(self, picture: Picture) -> Sequence[Finding]:
        """What it finds in the picture."""
        data, media_type = await imaging.in_thread(lambda: fitted(picture, self._vendor.fit))
        ask = await asyncio.to_thread(self._vendor.ask_picture, data, media_type)
        labels = await self._line.labels(ask, self._vendor.read_picture)
        return list(counted((self.name, self._vendor.version), self._vendor.picture_labels, labels, None))

    async def close(self) -> None:
        """Holds nothing of its own."""


def hosted(vendor: Vendor, plug_in: PlugIn, caller: Caller) -> Plugged:
    """What the vendor can do of what it shall."""
    line = Line(plug_in.name, caller, plug_in.options.timeout)
    content = plug_in.options.content
    texts = HostedTexts(vendor, plug_in, line) if vendor.text_labels and "texts" in content else None
    pictures = HostedPictures(vendor, plug_in, line) if vendor.picture_labels and "pictures" in content else None
    return Plugged(line.check, texts, pictures)


def _capability(vendor: Vendor, plug_in: PlugIn, labels: Meanings) -> Capability:
    return Capability(
        frozenset(counts.category for meaning in labels.values() for counts in meaning),
        vendor.version,
        plug_in.options.timeout + WAITING,
        external=True,
        on_demand=plug_in.options.use == "required",
    )


def _starts(length: int, longest: int) -> range:
    """Where the pieces of a text begin."""
    return range(0, max(length - OVERLAP, 1), longest - OVERLAP) if length > longest else range(1)
