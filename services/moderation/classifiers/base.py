"""The port for classifiers of texts and pictures: local models and services outside the mesh alike.

A classifier is one file in this folder and one line in the table of `services.moderation.classifiers`. It says which
categories it covers; what no loaded classifier and no other layer covers is `not_evaluated` in the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.moderation.verdicts import Category, Finding, Text


@dataclass(frozen=True)
class Capability:
    """What a classifier can do.

    categories: those it gives scores for. version: of the model, kept with every finding. timeout: seconds that one
    judgement may take, waiting included. languages: those it understands (BCP 47 primary tags); empty: any.
    """

    categories: frozenset[Category]
    version: str
    timeout: float = 5.0
    languages: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A picture that passed the safe decoder. `data` are the encoded bytes; sizes in pixels."""

    data: bytes
    format: str
    width: int
    height: int


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
