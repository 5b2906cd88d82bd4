"""Undoes the disguises of text before anything is looked up in it.

`normalise` folds each character on its own (compatibility forms, combining marks, invisible characters, look-alikes,
case), so it is idempotent and linear in the text. What depends on neighbours becomes further *readings* of the folded
text: digits and signs as letters, letters spread by dots or spaces, text inside base64. Repeated letters are the
lexicon's business (`services.moderation.lexicon`). Positions lead back to the caller's own characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from services.moderation import confusables
from services.moderation.encodings import encoded_parts, unescaped

EXPANSION_LIMIT = 4  # characters that one character may become
JOINED_LIMIT = 64  # characters of a word put together from dotted pieces
UNESCAPES = 3  # escapes inside escapes that are undone
LEET_WORDS = 3  # words with digits for letters from which on words of digits alone are read as letters too
SPELLED_MINIMUM = 3  # single letters in a row that look like a spelled word

_LOOK_ALIKES = confusables.table()
_DROPPED = frozenset({"Mn", "Me", "Cf", "Cc", "Cs", "Co", "Cn"})
_WORD = re.compile(r"[^\W_]+")
_LEET_WORD = re.compile(r"[@$!|+]{0,8}[^\W_]+(?:[@$!|€*+]{1,8}[^\W_]+)*[@$|+*]{0,8}")
_LEET_SIGN = re.compile(r"[0-9@$!|€+*]")
_AMBIGUOUS = re.compile(r"[1!|]")
_LEET = dict(zip(map(ord, "0123456789@$!|€+"), "oizeasgtbgasiiet", strict=True))
_I_OR_L = ("i", "l", "il", "li")  # how the first such sign and the others are read
_STAR = "*"
_VOWELS = "aeiou"


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

    Encoded words are followed as deep as they go: each level is at most three quarters as long as the one around it.
    Escapes are undone `UNESCAPES` times over.
    """
    return _normalised(text, UNESCAPES)


def _normalised(text: str, unescapes: int) -> Normalised:
    folded = text.translate(_FOLDING)
    words = tuple(Token(match[0], match.start(), match.end()) for match in _WORD.finditer(folded))
    readings = (Reading("plain", words), *_disguised(folded, words))
    return Normalised(text, folded, readings, tuple(_embedded(text, unescapes)))


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
    kept = "".join(_digit(part) for part in apart if unicodedata.category(part) not in _DROPPED)
    return kept.casefold()


def _digit(character: str) -> str:
    """Digits of every script as ASCII ones."""
    return character if character.isascii() else str(unicodedata.decimal(character, character))


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
    """The tokens with digits and signs as letters, once for each way to read what may be several letters."""
    mixed = [_is_leet(token.text) for token in tokens]
    if not any(mixed):
        return
    yield from _lettered(name, tokens, mixed)
    if sum(mixed) >= LEET_WORDS and any(token.text.isdigit() for token in tokens):
        digits = [wanted or token.text.isdigit() for token, wanted in zip(tokens, mixed, strict=True)]
        yield from _lettered(name, tokens, digits)


def _lettered(name: str, tokens: tuple[Token, ...], changed: list[bool]) -> Iterator[Reading]:
    signs = [token.text for token, wanted in zip(tokens, changed, strict=True) if wanted]
    ways = _I_OR_L if any(_AMBIGUOUS.search(text) for text in signs) else _I_OR_L[:1]
    stars = _VOWELS if any(_STAR in text.strip(_STAR) for text in signs) else ""
    for way in ways:
        yield Reading(name, _unleet(tokens, changed, way, ""))
    for vowel in stars:
        yield Reading(name, _unleet(tokens, changed, "i", vowel))


def _is_leet(text: str) -> bool:
    """Numbers stay numbers: only words that mix letters with digits or signs are read so."""
    return _LEET_SIGN.search(text) is not None and not text.isdigit()


def _unleet(tokens: tuple[Token, ...], changed: list[bool], way: str, star: str) -> tuple[Token, ...]:
    return tuple(
        token._replace(text=_letters(token.text, way, star)) if wanted else token
        for token, wanted in zip(tokens, changed, strict=True)
    )


def _letters(text: str, way: str, star: str) -> str:
    text = _AMBIGUOUS.sub(way[-1], _AMBIGUOUS.sub(way[0], text, count=1))
    return text.translate(_LEET).replace(_STAR, star)


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


def _embedded(text: str, unescapes: int) -> Iterator[Embedded]:
    """Either the whole text without its escapes, in which encoded words are found next, or the encoded words."""
    plain = unescaped(text) if unescapes else None
    if plain is not None:
        yield Embedded(0, len(text), _normalised(plain, unescapes - 1))
        return
    for start, end, inner in encoded_parts(text):
        yield Embedded(start, end, _normalised(inner, unescapes))


__all__ = ["Embedded", "Normalised", "Reading", "Token", "normalise"]
