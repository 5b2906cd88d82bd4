"""One request inside the engine: its state, its marks in time, and the rounds it takes part in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import Enum

from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Fact, Finished, Stage
from services.inference.engine.family import Sampling
from services.inference.engine.request import DrawRequest, Lane

Sink = Callable[[Fact | EngineError], None]

STEPS_A_STAGE = 10  # denoising steps that are told as one stage, inside the stage of them all


def _unheard(_: Fact | EngineError) -> None:
    """The sink of an ended request."""


def _nobody_asks() -> bool:
    return False


class Phase(Enum):
    """Where a request is; the value is the name of the stage it is in."""

    WAITING = "queue"
    ENCODING = "encode"
    STEPPING = "denoise"
    DECODING = "decode"
    ENDED = "ended"


class Work:
    """A submitted request. Its methods may be called from any thread; nothing is told after its end."""

    def __init__(
        self, request: DrawRequest, sink: Sink, asked_to_stop: Callable[[], bool], now: int, memory: int = 0
    ) -> None:
        """`memory`: bytes of the device that its rows take while it is drawn."""
        self.request = request
        self.memory = memory
        self._sink = sink
        self._lock = threading.RLock()
        self.phase = Phase.WAITING
        self.sampling: Sampling | None = None
        self.step = 0
        self.device_seconds = 0.0
        self.shared_rows = 0
        self.stages: list[Stage] = []
        self.mark = now
        self.previewing = False  # a preview is on its way; steps do not wait for it
        self._steps_mark = now
        self._asked_to_stop = asked_to_stop
        self._canceled = threading.Event()

    @property
    def lane(self) -> Lane:
        """The lane it was asked for in."""
        return self.request.lane

    def move(self, source: Phase, target: Phase) -> bool:
        """Goes from one phase to another; False when it is no longer in the first."""
        with self._lock:
            moved = self.phase is source
            self.phase = target if moved else self.phase
            return moved

    def tell(self, fact: Fact) -> None:
        """Hands a fact to the caller, unless the request has ended."""
        with self._lock:
            if self.phase is not Phase.ENDED:
                self._sink(fact)

    def end(self, last: Finished | EngineError) -> None:
        """Ends the request, says how, and lets go of its tensors and of whoever listened; the first end counts.

        The threads may hold on to an ended request until their next one, and Triton unloads no model while anybody
        holds one of its response senders. A sink that fails has nobody left to tell.
        """
        with self._lock:
            if self.phase is Phase.ENDED:
                return
            self.phase = Phase.ENDED
            self.sampling = None
            sink, self._sink, self._asked_to_stop = self._sink, _unheard, _nobody_asks
        with suppress(Exception):
            sink(last)

    def cancel(self) -> None:
        """Stops the request before its next step."""
        self._canceled.set()

    @property
    def canceled(self) -> bool:
        """Whether `cancel` was called or the host says that the caller went away."""
        if not self._canceled.is_set() and self._asked_to_stop():
            self._canceled.set()
        return self._canceled.is_set()

    @property
    def drawing(self) -> Sampling:
        """The sampling, once the request was encoded."""
        sampling = self.sampling
        if sampling is None:
            raise RuntimeError("the request was not encoded yet")
        return sampling

    @property
    def wants_preview(self) -> bool:
        """Whether a preview is due after this step: as many as were asked for, spread evenly, none after the last."""
        looks, steps = self.request.previews, self.drawing.steps
        if self.previewing or not looks or self.step >= steps:
            return False
        return self.step * (looks + 1) // steps > (self.step - 1) * (looks + 1) // steps

    def end_stage(self, name: str, now: int, **attributes: str | int | float) -> None:
        """Records the stretch since the last mark under `name`."""
        self.stages.append(Stage(name, self.mark, now, attributes))
        self.mark = self._steps_mark = now

    def end_steps(self, now: int) -> None:
        """Records every ten steps as a stage of their own."""
        if self.step % STEPS_A_STAGE == 0:
            first = self.step - STEPS_A_STAGE + 1
            self.stages.append(Stage("steps", self._steps_mark, now, {"first": first, "last": self.step}))
            self._steps_mark = now


def batches(works: Iterable[Work], most_rows: int) -> Iterator[list[Work]]:
    """Groups of equal shape with at most `most_rows` rows each (a request with more is a group of its own)."""
    by_shape: dict[object, list[Work]] = {}
    for work in works:
        by_shape.setdefault(work.drawing.shape, []).append(work)
    for same in by_shape.values():
        yield from _split(same, most_rows)


def _split(works: list[Work], most_rows: int) -> Iterator[list[Work]]:
    batch: list[Work] = []
    rows = 0
    for work in works:
        if batch and rows + work.drawing.rows > most_rows:
            yield batch
            batch, rows = [], 0
        batch.append(work)
        rows += work.drawing.rows
    if batch:
        yield batch
