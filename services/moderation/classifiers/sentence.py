"""The built-in text classifier: a frozen sentence encoder and one calibrated head for each category.

Every text is judged whole and in pieces, and its score in a category is the highest of them. Calls run in threads of
their own, at most so many at once; further ones wait their turn, and too many are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mesh.errors import Unavailable
from services.moderation.classifiers.base import Capability
from services.moderation.classifiers.sentence_encoder import Encoder
from services.moderation.classifiers.sentence_heads import Heads
from services.moderation.classifiers.sentence_restoring import Restorer
from services.moderation.classifiers.sentence_windows import View, views
from services.moderation.config import ModerationSettings
from services.moderation.normalise import normalise
from services.moderation.verdicts import Finding, Span, Text

NAME = "sentence"
LEAST_SCORE = 0.2  # lower ones are not worth a row of evidence
TIMEOUT = 20.0  # seconds; 32,000 characters take one or two, and others may be before them
LANGUAGES = frozenset({"en"})


@dataclass(frozen=True)
class SentenceModel:
    """Encoder, heads and vocabulary together; safe in many threads."""

    encoder: Encoder
    heads: Heads
    restorer: Restorer

    @classmethod
    def load(cls, folder: Path) -> SentenceModel:
        """From the encoder's folder. Raises EncoderFileError or HeadsError; takes about a tenth of a second."""
        encoder = Encoder.load(folder)
        return cls(encoder, Heads.load(), Restorer(encoder.vocabulary()))

    @property
    def version(self) -> str:
        """Of heads and encoder."""
        return f"{self.heads.version}+{self.encoder.version}"

    def judge(self, texts: Sequence[Text]) -> list[Finding]:
        """The highest score of each text in each category with the piece that reached it."""
        return [finding for text in texts for finding in self._judge(text)]

    def _judge(self, text: Text) -> Iterator[Finding]:
        shown = _distinct(views(normalise(text.text), self.restorer))
        if not shown:
            return
        scores = self.heads.scores(self.encoder.encode([view.text for view in shown]))
        for category, column in zip(self.heads.categories, scores.T, strict=True):
            best = int(np.argmax(column))
            score = round(float(column[best]), 4)
            if score >= LEAST_SCORE:
                view = shown[best]
                span = Span(text.index, text.kind, view.start, view.end)
                yield Finding(NAME, category, score, f"{NAME}/{category.lower()}", self.version, span, view.reading)


class SentenceClassifier:
    """The model behind the port, in threads. `threads` calls run at once, `waiting` more may queue."""

    name = NAME

    def __init__(self, model: SentenceModel, threads: int = 2, waiting: int = 256) -> None:
        self._model = model
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=NAME)
        self._room = threads + waiting
        self.capability = Capability(frozenset(model.heads.categories), model.version, TIMEOUT, LANGUAGES)

    async def judge(self, texts: Sequence[Text]) -> Sequence[Finding]:
        """What it finds; Unavailable when too many calls wait already."""
        if self._room <= 0:
            raise Unavailable("too many texts wait to be judged", retry_after=0.5)
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._model.judge, texts)
        finally:
            self._room += 1

    async def close(self) -> None:
        """Ends the threads; calls that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _distinct(shown: Sequence[View]) -> list[View]:
    """The first view of each text."""
    return list({view.text: view for view in reversed(shown)}.values())[::-1]


@cache
def _loaded(folder: Path) -> SentenceModel:
    """Once a process, however many services run in it: nothing in a model ever changes."""
    return SentenceModel.load(folder)


def make(settings: ModerationSettings) -> SentenceClassifier | None:
    """The classifier, or None where `encoder` is empty. Raises EncoderFileError or HeadsError."""
    if not settings.encoder:
        return None
    return SentenceClassifier(_loaded(Path(settings.encoder)), settings.limits().text_threads)
