"""What a hosted classifier is made of: how a question is put and how the answer reads. No I/O, so it is all data.

Everything else stands around it in `hosted`: the call, its deadline, the breaker, fitting pictures, metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import NamedTuple, Protocol

from services.moderation.classifiers.base import ClassifierError
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Category, Finding, Span

JSON = "application/json"
LEAST_SCORE = 0.05  # lower ones are not worth a row of evidence


class Counts(NamedTuple):
    """What a label counts for: a category, and what its score is multiplied by."""

    category: Category
    weight: float = 1.0


Meanings = Mapping[str, tuple[Counts, ...]]
"""A vendor's labels and what each counts for; labels that are not in it count for nothing."""


@dataclass(frozen=True)
class Label:
    """A label that the model gave. score: 0 to 1, before the weight of what it counts for; ValueError for no number."""

    name: str
    score: float

    def __post_init__(self) -> None:
        """What is no number is no judgement: it is below every threshold."""
        if not isfinite(self.score):
            raise ValueError("a score is no number")


@dataclass(frozen=True)
class Ask:
    """One POST."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class PictureFit:
    """Which pictures it takes as they are: sides in pixels, size in bytes. Others become JPEGs that fit."""

    formats: frozenset[str] = frozenset({"png", "jpeg", "webp"})
    least_side: int = 1
    most_side: int = 2_048
    most_bytes: int = 4_000_000


class Vendor(Protocol):
    """One hosted classifier. `read_…` raise ValueError (pydantic's included) for what is no answer of its kind."""

    version: str
    text_labels: Meanings
    """Empty: it judges no texts."""
    picture_labels: Meanings
    """Empty: it judges no pictures."""
    longest: int
    """Characters of a text that it takes at once; longer ones go in overlapping pieces."""
    fit: PictureFit

    def ask_text(self, text: str) -> Ask:
        """The question about a text."""
        ...

    def read_text(self, answer: bytes) -> Sequence[Label]:
        """What the answer (status 200) says."""
        ...

    def ask_picture(self, data: bytes, media_type: str) -> Ask:
        """The question about a picture that fits."""
        ...

    def read_picture(self, answer: bytes) -> Sequence[Label]:
        """What the answer (status 200) says."""
        ...


class PicturesOnly:
    """What a vendor of the port inherits that judges no texts."""

    text_labels: Meanings = MappingProxyType({})
    longest = 1

    def ask_text(self, text: str) -> Ask:
        """It judges no texts."""
        raise NotImplementedError

    def read_text(self, answer: bytes) -> Sequence[Label]:
        """It judges no texts."""
        raise NotImplementedError


def needed(plug_in: PlugIn, *options: str) -> None:
    """Raises ClassifierError when an option without a default is missing; `key` is `key_env`."""
    missing = [name for name in options if not _given(plug_in, name)]
    if missing:
        raise ClassifierError(f"classifier {plug_in.name}: {', '.join(missing)}: required for {plug_in.kind}")


def _given(plug_in: PlugIn, name: str) -> bool:
    if name == "key_env":
        return bool(plug_in.key.get_secret_value())
    if name.startswith("extra_env."):
        return name.removeprefix("extra_env.") in plug_in.secrets
    return bool(getattr(plug_in.options, name))


def bearer(plug_in: PlugIn) -> dict[str, str]:
    """JSON's headers with the key, where there is one."""
    key = plug_in.key.get_secret_value()
    return {"Content-Type": JSON, "Accept": JSON, **({"Authorization": f"Bearer {key}"} if key else {})}


def counted(
    model: tuple[str, str], meanings: Meanings, labels: Iterable[Label], span: Span | None
) -> Iterator[Finding]:
    """The best label of each category as a finding. model: the layer's name, and the version."""
    name, version = model
    best: dict[Category, Finding] = {}
    for label in labels:
        for counts in meanings.get(label.name, ()):
            score = round(min(max(label.score, 0.0), 1.0) * counts.weight, 4)
            before = best.get(counts.category)
            if score >= LEAST_SCORE and (before is None or score > before.score):
                entry, reading = f"{name}/{label.name}", "" if span is None else "plain"
                best[counts.category] = Finding(name, counts.category, score, entry, version, span, reading)
    yield from best.values()
