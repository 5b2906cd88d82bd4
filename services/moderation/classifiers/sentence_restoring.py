"""Reads disguised words as what they stand for, with the encoder's own vocabulary to choose between readings.

The lexicon looks every reading up; an encoder needs one text. Words in which signs stand for letters (`k1ll`), whose
letters are spread (`k i l l`) or repeated (`kiiiill`) are replaced by the most common word that they can be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

from services.moderation.normalise import Normalised, Token

SIGNS: Mapping[str, str] = {
    "0": "o",
    "1": "il",
    "2": "z",
    "3": "e",
    "4": "a",
    "5": "s",
    "6": "g",
    "7": "t",
    "8": "b",
    "9": "g",
    "@": "a",
    "$": "s",
    "!": "il",
    "|": "li",
    "€": "e",
    "*": "",
    "+": "t",
}
LONGEST_WORD = 24
LONGEST_RUN = 2_000  # letters in a row that are cut into words; longer ones are read by the lexicon only
READINGS = 32  # of one word
UNKNOWN = 14.0  # what a letter outside any known word costs, in the unit of `Restorer._cost`

_CHUNK = re.compile(r"[^\s\"'(),:;?\[\]{}]+")
_SIGN = re.compile(r"[0-9@$!|€*+]")
_REPEATED = re.compile(r"(.)\1+")


class Word(NamedTuple):
    """A word of the restored text and where it lies in the folded text."""

    text: str
    start: int
    end: int


class Restorer:
    """Knows the words of a vocabulary, most common first, as word pieces have them."""

    def __init__(self, vocabulary: Mapping[str, int]) -> None:
        ranks = {word: rank for word, rank in vocabulary.items() if word.isalpha() and (len(word) > 1 or word in "ai")}
        self._cost = {word: math.log(1 + rank) for word, rank in ranks.items() if word.isascii()}

    def knows(self, word: str) -> bool:
        """Whether it is a word of the vocabulary."""
        return word in self._cost

    def restore(self, text: Normalised) -> list[Word]:
        """The text's words with disguised ones replaced; empty when none is disguised."""
        replaced = {word.start: word for word in reversed(list(self._replaced(text)))}  # the first reading counts
        if not replaced:
            return []
        words, covered = [], 0
        for token in text.readings[0].tokens:
            if token.start < covered:
                continue
            word = replaced.get(token.start, Word(*token))
            words.append(word)
            covered = word.end
        return words

    def _replaced(self, text: Normalised) -> Iterator[Word]:
        for token in text.readings[0].tokens:
            word = self._squeezed(token.text)
            if word != token.text:
                yield Word(word, token.start, token.end)
        for match in _CHUNK.finditer(text.text) if _SIGN.search(text.text) else ():
            if len(match[0]) > LONGEST_WORD or not _SIGN.search(match[0]):
                continue
            word = self._without_signs(match[0].rstrip("!."))
            start = _first_letter(text.text, match.start(), match.end())
            if word and start is not None:
                yield Word(word, start, match.end())
        for reading in text.readings[1:]:
            if reading.name == "spelled":
                yield from (self._segmented(token) for token in reading.tokens if _letters(text, token) > 2)
            if reading.name == "joined":
                yield from (Word(*token) for token in reading.tokens if self._joins(text, token))

    def _joins(self, text: Normalised, token: Token) -> bool:
        """`n.u.d.e`, not `f/1.8`: letters only."""
        return token.text.isalpha() and not any(character.isdigit() for character in text.text[token.start : token.end])

    def _squeezed(self, word: str) -> str:
        """`kiiill` as `kill`: only words that are unknown as they stand."""
        runs = [match[0] for match in _REPEATED.finditer(word)]
        if not runs or self.knows(word) or len(word) > LONGEST_WORD * 4 or not word.isalpha():
            return word
        parts: list[tuple[str, ...]] = [(part[0], part[0] * 2) if len(part) > 1 else (part,) for part in _runs(word)]
        readings = ("".join(parts) for parts in _some(parts))
        return self._most_common(readings) or (_REPEATED.sub(r"\1", word) if max(map(len, runs)) > 2 else word)

    def _without_signs(self, word: str) -> str:
        """`k1ll` as `kill`; numbers, sizes and codes (`1990s`, `8k`) stay what they are."""
        letters = sum(character.isalpha() for character in word)
        if letters == 0 or word.rstrip("abcdefghijklmnopqrstuvwxyz").isdigit():
            return ""
        parts = [tuple(SIGNS[character]) or ("",) if character in SIGNS else (character,) for character in word]
        readings = ["".join(reading) for reading in _some(parts)]
        known = self._most_common(readings)
        return known or (self._squeezed(readings[0]) if letters * 2 > len(word) else "")

    def _most_common(self, readings: Iterator[str] | list[str]) -> str:
        known = [reading for reading in readings if reading in self._cost]
        return min(known, key=self._cost.__getitem__, default="")

    def _segmented(self, token: Token) -> Word:
        """Glued letters as words: the cut with the most common words (Viterbi)."""
        letters = token.text[:LONGEST_RUN]
        best: list[tuple[float, int]] = [(0.0, 0)]
        for end in range(1, len(letters) + 1):
            choices = (
                (best[start][0] + self._price(letters[start:end]), start)
                for start in range(max(0, end - LONGEST_WORD), end)
            )
            best.append(min(choices))
        words, end = [], len(letters)
        while end:
            words.append(letters[best[end][1] : end])
            end = best[end][1]
        return Word(" ".join(reversed(words)), token.start, token.end)

    def _price(self, word: str) -> float:
        return self._cost.get(word, UNKNOWN * len(word)) + 2.0  # each word costs something, or all fall into pieces


def _letters(text: Normalised, token: Token) -> int:
    return sum(character.isalpha() for character in text.text[token.start : token.end])


def _runs(word: str) -> list[str]:
    return [match[0] for match in re.finditer(r"(.)\1*", word)]


def _some(parts: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Combinations of the parts; only first choices where there would be too many."""
    if math.prod(map(len, parts)) > READINGS:
        parts = [part[:1] for part in parts]
    return product(*parts)


def _first_letter(text: str, start: int, end: int) -> int | None:
    """Where the first token of the stretch begins; a leading `$` or `@` belongs to none."""
    return next((place for place in range(start, end) if text[place].isalnum()), None)
