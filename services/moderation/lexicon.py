"""Many words and phrases looked up in a normalised text at once, at word boundaries.

Terms are filed under their first word with repeated letters squeezed, so a text costs one dictionary look-up a word,
however many terms there are. A text's letter may be repeated more often than the term's ("nuuude"), never less
("bobs" is not "boobs"). A term ending in `*` matches every word that begins with it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from services.moderation.normalise import Normalised, Reading, Token, normalise

GLUED_KEY = 4  # first letters under which terms are filed for glued readings; shorter terms are not looked for there

_WORD = re.compile(r"[^\W_]+")
_REPEATED = re.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a list. `owner` is whatever the caller filed it under."""

    owner: str
    text: str


class Match(NamedTuple):
    """A term found in a text, between two positions of the original."""

    term: Term
    start: int
    end: int
    reading: str


class Lexicon:
    """An immutable set of terms; `matches` is safe in any thread."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._whole: dict[str, list[_Phrase]] = defaultdict(list)
        self._beginning: dict[str, list[_Phrase]] = defaultdict(list)
        self._glued: dict[str, list[_Phrase]] = defaultdict(list)
        for term in terms:
            self._file(_Phrase(term))
        self._beginnings = sorted({len(key) for key in self._beginning})

    def _file(self, phrase: _Phrase) -> None:
        filed = self._beginning if phrase.open and len(phrase.words) == 1 else self._whole
        filed[_squeeze(phrase.words[0])].append(phrase)
        if len(phrase.glued) >= GLUED_KEY:
            self._glued[phrase.glued[:GLUED_KEY]].append(phrase)

    def matches(self, text: Normalised) -> Iterator[Match]:
        """Every match in every reading, embedded texts included; the same place may come more than once."""
        for reading in text.readings:
            find = self._find_glued if reading.name == "spelled" else self._find
            for term, start, end in find(reading):
                yield Match(term, *text.origin(start, end), reading.name)
        for inner in text.embedded:
            for match in self.matches(inner.text):
                yield Match(match.term, inner.start, inner.end, "base64")

    def _find(self, reading: Reading) -> Iterator[tuple[Term, int, int]]:
        tokens = reading.tokens
        for place, token in enumerate(tokens):
            for phrase in self._candidates(_squeeze(token.text)):
                last = place + len(phrase.words) - 1
                if last < len(tokens) and phrase.fits(tokens[place : last + 1]):
                    yield phrase.term, token.start, tokens[last].end

    def _candidates(self, word: str) -> Iterator[_Phrase]:
        yield from self._whole.get(word, ())
        for length in self._beginnings:
            if length > len(word):
                return
            yield from self._beginning.get(word[:length], ())

    def _find_glued(self, reading: Reading) -> Iterator[tuple[Term, int, int]]:
        for token in reading.tokens:
            for place in range(len(token.text) - GLUED_KEY + 1):
                for phrase in self._glued.get(token.text[place : place + GLUED_KEY], ()):
                    if token.text.startswith(phrase.glued, place):
                        yield phrase.term, token.start, token.end


class Cover:
    """Places in a text that cover others; asking costs a binary search, however many there are."""

    def __init__(self, places: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(places)
        self._starts = [start for start, _ in ordered]
        self._furthest = list(accumulate((end for _, end in ordered), max))

    def hides(self, start: int, end: int) -> bool:
        """Whether one of the places holds all of it."""
        before = bisect_right(self._starts, start)
        return before > 0 and self._furthest[before - 1] >= end


class _Phrase:
    """A term cut into words. `open`: the last word may go on. `glued`: the words without gaps."""

    __slots__ = ("_patterns", "glued", "open", "term", "words")

    def __init__(self, term: Term) -> None:
        self.term = term
        self.open = term.text.endswith("*")
        self.words = split(term.text)
        self.glued = "".join(self.words)
        self._patterns: tuple[re.Pattern[str], ...] | None = None

    def fits(self, tokens: Sequence[Token]) -> bool:
        if not self.open and all(token.text == word for token, word in zip(tokens, self.words, strict=True)):
            return True
        return self._may_fit(tokens) and all(
            pattern.fullmatch(token.text) for token, pattern in zip(tokens, self._compiled(), strict=True)
        )

    def _may_fit(self, tokens: Sequence[Token]) -> bool:
        """Cheap, and false for nearly everything: each word begins as its token does."""
        return all(token.text[0] == word[0] for token, word in zip(tokens, self.words, strict=True))

    def _compiled(self) -> tuple[re.Pattern[str], ...]:
        """One pattern a word, in which each run of a letter may be longer; made on first use."""
        if self._patterns is None:
            ends = [""] * (len(self.words) - 1) + [".*" if self.open else ""]
            runs = ["".join(_run(run) for run in re.finditer(r"(.)\1*", word)) for word in self.words]
            self._patterns = tuple(re.compile(run + end) for run, end in zip(runs, ends, strict=True))
        return self._patterns


def _run(run: re.Match[str]) -> str:
    return f"{re.escape(run[1])}{{{len(run[0])},}}"


def _squeeze(word: str) -> str:
    return _REPEATED.sub(r"\1", word) if _REPEATED.search(word) else word


def split(text: str) -> tuple[str, ...]:
    """A term's words after normalising; folding ASCII is lower case and nothing else, which makes loading quick."""
    if text.isascii() and text.isprintable():
        return tuple(_WORD.findall(text.casefold()))
    return tuple(token.text for token in normalise(text).readings[0].tokens)


def words_of(text: str) -> int:
    """How many words a term has after normalising; a term without any can never match."""
    return len(split(text))


__all__ = ["Cover", "Lexicon", "Match", "Term", "split", "words_of"]
