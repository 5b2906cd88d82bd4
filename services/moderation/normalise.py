"""Undoes the disguises of text before anything is looked up in it.

`normalise` folds each character on its own (compatibility forms, combining marks, invisible characters, look-alikes,
case), so it is idempotent and linear in the text. What depends on neighbours becomes further *readings* of the folded
text: digits and signs as letters, letters spread by dots or spaces, text inside base64. Repeated letters are the
lexicon's business (`services.moderation.lexicon`). Positions lead back to the caller's own characters.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from services.moderation import confusables

EXPANSION_LIMIT = 4  # characters that one character may become
JOINED_LIMIT = 64  # characters of a word put together from dotted pieces
SPELLED_MINIMUM = 3  # single letters in a row that look like a spelled word

_LOOK_ALIKES = confusables.table()
_DROPPED = frozenset({"Mn", "Me", "Cf", "Cc", "Cs", "Co", "Cn"})
_WORD = re.compile(r"[^\W_]+")
_LEET_WORD = re.compile(r"[@$]*[^\W_]+(?:[@$!|€*]+[^\W_]+)*[@$]*")
_LEET_SIGN = re.compile(r"[0-9@$!|€]")
_LEET = dict(zip(map(ord, "0123456789@$!|€"), "oizeasgtbgasiie", strict=True))
_LEET_L = _LEET | dict.fromkeys(map(ord, "1!|"), "l")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")


class Token(NamedTuple):
    """A word of a reading and where it lies in the folded text."""

    text: str
    start: int
    end: int


class Reading(NamedTuple):
    """One way to read a text as words. In a `spelled` reading, words may be glued together without a gap."""

    name: str
    tokens: tuple[Token, ...]


class Embedded(NamedTuple):
    """Text that was found encoded inside another one, between two positions of the original."""

    start: int
    end: int
    text: Normalised


@dataclass(frozen=True)
class Normalised:
    """A folded text with its readings. `text` is at most four times as long as `original`."""

    original: str
    text: str
    readings: tuple[Reading, ...]
    embedded: tuple[Embedded, ...] = ()

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original that became `text[start:end]`."""
        if self.original.isascii() and len(self.original) == len(self.text):
            return start, end
        return self._origins[start], self._origins[end - 1] + 1

    @cached_property
    def _origins(self) -> list[int]:
        lengths = (len(_fold(ord(character))) for character in self.original)
        return [index for index, length in enumerate(lengths) for _ in range(length)]


def normalise(text: str) -> Normalised:
    """Folds the text and finds its readings; linear time and space in the text's length.

    Base64 is followed as deep as it goes: each level is at most three quarters as long as the one around it.
    """
    folded = text.translate(_FOLDING)
    words = tuple(Token(match[0], match.start(), match.end()) for match in _WORD.finditer(folded))
    readings = (Reading("plain", words), *_disguised(folded, words))
    return Normalised(text, folded, readings, tuple(_embedded(text)))


class _Folding:
    """A translation table that is computed as it is used and does not outgrow its cache."""

    def __getitem__(self, code: int) -> str:
        return _fold(code)


@lru_cache(maxsize=16_384)
def _fold(code: int) -> str:
    """What becomes of one character, wherever it stands; folding the result again changes nothing."""
    text = chr(code)
    if text.isspace():
        return " "
    for _ in range(EXPANSION_LIMIT):
        again = "".join(_fold_once(character) for character in text)
        if again == text:
            break
        text = again
    return text[:EXPANSION_LIMIT]


def _fold_once(character: str) -> str:
    alike = _LOOK_ALIKES.get(character)
    if alike is not None:
        return alike
    apart = unicodedata.normalize("NFKD", character)
    kept = "".join(part for part in apart if unicodedata.category(part) not in _DROPPED)
    return kept.casefold()


_FOLDING = _Folding()


def _disguised(folded: str, words: tuple[Token, ...]) -> Iterator[Reading]:
    """The readings that differ from the plain one; most texts have none."""
    if _LEET_SIGN.search(folded):
        yield from _leet(folded)
    if len(words) > 1:
        joined = tuple(_joined(folded, words))
        if joined:
            yield from (Reading("joined", joined), *_leet_of("joined", joined))
        spelled = tuple(_spelled(folded, words))
        if spelled:
            yield from (Reading("spelled", spelled), *_leet_of("spelled", spelled))


def _leet(folded: str) -> Iterator[Reading]:
    tokens = tuple(Token(match[0], match.start(), match.end()) for match in _LEET_WORD.finditer(folded))
    yield from _leet_of("leet", tokens)


def _leet_of(name: str, tokens: tuple[Token, ...]) -> Iterator[Reading]:
    """The tokens with digits and signs as letters: once with 1 as i, once with 1 as l, where that differs."""
    as_i = tuple(_unleet(token, _LEET) for token in tokens)
    if as_i != tokens:
        yield Reading(name, as_i)
        as_l = tuple(_unleet(token, _LEET_L) for token in tokens)
        if as_l != as_i:
            yield Reading(name, as_l)


def _unleet(token: Token, table: dict[int, str]) -> Token:
    """Numbers stay numbers: only words that mix letters with digits or signs are read so."""
    if not _LEET_SIGN.search(token.text) or token.text.isdigit():
        return token
    return token._replace(text=token.text.translate(table).replace("*", ""))


def _joined(folded: str, words: tuple[Token, ...]) -> Iterator[Token]:
    """Pieces of a word that single signs hold apart (`nu.de`, `k-i-l-l`), put together."""
    chain: list[Token] = []
    for word in words:
        if chain and not _single_sign(folded, chain[-1].end, word.start):
            yield from _chained(chain)
            chain = []
        chain.append(word)
    yield from _chained(chain)


def _single_sign(folded: str, start: int, end: int) -> bool:
    return end - start == 1 and not folded[start].isspace()


def _chained(chain: list[Token]) -> Iterator[Token]:
    if len(chain) > 1 and min(len(piece.text) for piece in chain) <= 2:
        word = "".join(piece.text for piece in chain)
        if len(word) <= JOINED_LIMIT:
            yield Token(word, chain[0].start, chain[-1].end)


def _spelled(folded: str, words: tuple[Token, ...]) -> Iterator[Token]:
    """Runs of single letters (`n u d e`), put together; gaps between words are lost in them."""
    run: list[Token] = []
    for word in words:
        if len(word.text) == 1 and (not run or word.start - run[-1].end <= 3):
            run.append(word)
            continue
        yield from _run(run)
        run = [word] if len(word.text) == 1 else []
    yield from _run(run)


def _run(run: list[Token]) -> Iterator[Token]:
    if len(run) >= SPELLED_MINIMUM:
        yield Token("".join(letter.text for letter in run), run[0].start, run[-1].end)


def _embedded(text: str) -> Iterator[Embedded]:
    for match in _BASE64.finditer(text):
        inner = _decoded(match[0]) if _looks_encoded(match[0]) else None
        if inner is not None:
            yield Embedded(match.start(), match.end(), normalise(inner))


def _looks_encoded(word: str) -> bool:
    """Cheap: ordinary words have no capital after the first letter, or nothing but capitals."""
    return word.endswith("=") or not (word[1:].islower() or word.isupper() or word.isdigit())


def _decoded(word: str) -> str | None:
    """The text inside a base64 word, or None when there is none worth reading."""
    body = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        inner = base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return inner if inner.isprintable() or all(c.isprintable() or c.isspace() for c in inner) else None


__all__ = ["Embedded", "Normalised", "Reading", "Token", "normalise"]
