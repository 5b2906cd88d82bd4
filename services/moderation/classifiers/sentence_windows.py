"""What of a text is shown to the encoder: all of it, and pieces of about twelve words, so that padding hides nothing.

Pieces are clauses; short ones go together with the next, long ones become overlapping windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.moderation.classifiers.sentence_restoring import Restorer, Word
from services.moderation.normalise import Normalised

WINDOW = 12  # words
STEP = 8  # words from one window of a long clause to the next
SHORTEST = 4  # words of a clause that stands alone
MOST_WINDOWS = 320  # of one text; longer texts have longer windows
FULL_CHARACTERS = 1_000  # of the whole text; the encoder reads no more tokens than those hold

_CLAUSE_END = re.compile(r"[,.;:!?\n|()\[\]{}]")


@dataclass(frozen=True, slots=True)
class View:
    """A piece of a text as the encoder reads it, and where it lies in the caller's own characters."""

    text: str
    start: int
    end: int
    reading: str


def views(text: Normalised, restorer: Restorer) -> list[View]:
    """The whole text first, then its pieces; embedded texts and restored readings likewise. Empty for no words."""
    words = [Word(*token) for token in text.readings[0].tokens]
    found = list(_pieces(text, words, "plain"))
    restored = restorer.restore(text)
    if restored:
        found.extend(_pieces(text, restored, "restored"))
    for inner in text.embedded:
        found.extend(
            View(view.text, inner.start, inner.end, "base64") for view in views(inner.text, restorer)[:MOST_WINDOWS]
        )
    return found


def _pieces(text: Normalised, words: Sequence[Word], reading: str) -> Iterator[View]:
    if not words:
        return
    yield _view(text, words, reading)
    size = max(WINDOW, len(words) // MOST_WINDOWS * STEP)
    if len(words) <= SHORTEST:
        return
    for window in _windows(text, words, size):
        if len(window) < len(words):
            yield _view(text, window, reading)


def _view(text: Normalised, words: Sequence[Word], reading: str) -> View:
    start, end = words[0].start, words[-1].end
    shown = text.text[start:end] if reading == "plain" else " ".join(word.text for word in words)
    return View(shown[:FULL_CHARACTERS], *text.origin(start, end), reading)


def _windows(text: Normalised, words: Sequence[Word], size: int) -> Iterator[Sequence[Word]]:
    if size > WINDOW:
        yield from _cut(words, size)
        return
    held: list[Word] = []
    for clause in _clauses(text, words):
        held.extend(clause)
        if len(held) < SHORTEST:
            continue
        yield from _cut(held, size)
        held = []
    if held:
        yield words[-max(len(held), SHORTEST) :]


def _clauses(text: Normalised, words: Sequence[Word]) -> Iterator[list[Word]]:
    clause: list[Word] = []
    for word in words:
        if clause and _CLAUSE_END.search(text.text, clause[-1].end, word.start):
            yield clause
            clause = []
        clause.append(word)
    yield clause


def _cut(words: Sequence[Word], size: int) -> Iterator[Sequence[Word]]:
    if len(words) <= size + SHORTEST:
        yield words
        return
    step = size * STEP // WINDOW
    for start in range(0, len(words) - size + step, step):
        yield words[start : start + size]
