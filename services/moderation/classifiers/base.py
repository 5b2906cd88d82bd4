"""The port for classifiers of texts and pictures: local models and services outside the mesh alike.

A classifier is one file in this folder and one line in the table of `services.moderation.classifiers`. It says which
categories it covers; what no loaded classifier and no other layer covers is `not_evaluated` in the verdict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.moderation.verdicts import Category, Finding, Text

Pixels = npt.NDArray[np.uint8]
"""A picture in memory: height, width, and red, green and blue from 0 to 255."""


class ClassifierError(Exception):
    """A classifier that the settings ask for and that cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Capability:
    """What a classifier can do.

    categories: those it gives scores for. version: of the model, kept with every finding. timeout: seconds that one
    judgement may take, waiting included. languages: those it understands (BCP 47 primary tags); empty: any.
    external: content leaves the mesh for it, so what is blocked by its hash is not shown to it. on_demand: it judges
    only under policies that name it in `required_layers`.
    """

    categories: frozenset[Category]
    version: str
    timeout: float = 5.0
    languages: frozenset[str] = frozenset()
    external: bool = False
    on_demand: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture that passed the safe decoder. `data` are the encoded bytes; sizes in pixels.

    views: it, upright and small, in every way that it can be looked at: over white, without its transparency, whole,
    and in squares where it is long. About 256 to 511 pixels a side, less where the picture has less; ten at most.
    """

    data: bytes
    format: str
    width: int
    height: int
    views: tuple[Pixels, ...] = field(default=(), compare=False, repr=False)


class TextClassifier(Protocol):
    """Scores texts. `judge` may be called many times at once; it raises a MeshError when it cannot judge."""

    name: str
    capability: Capability

    async def judge(self, texts: Sequence[Text]) -> Sequence[Finding]:
        """What it finds in the texts; none when it finds nothing."""
        ...

    async def close(self) -> None:
        """Frees what it holds; may be called twice."""
        ...


class ImageClassifier(Protocol):
    """Scores pictures. `judge` may be called many times at once; it raises a MeshError when it cannot judge."""

    name: str
    capability: Capability

    async def judge(self, picture: Picture) -> Sequence[Finding]:
        """What it finds in the picture; none when it finds nothing."""
        ...

    async def close(self) -> None:
        """Frees what it holds; may be called twice."""
        ...


@dataclass(frozen=True)
class Plugged:
    """A plug-in as classifiers of texts, of pictures, or both. check: raises while it is not well."""

    check: Callable[[], Awaitable[None]]
    texts: TextClassifier | None = None
    pictures: ImageClassifier | None = None
