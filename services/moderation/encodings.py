"""Text that is written in another notation inside a text: base64, hexadecimal, percent and character escapes.

`unescaped` undoes escapes in place; `encoded_parts` finds words that are whole texts in another notation. What either
gives is shorter than what it was made from, which bounds how deep such texts nest.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterator
from typing import NamedTuple

_ESCAPE = re.compile(
    r"%(?P<percent>[0-9a-fA-F]{2})"
    r"|\\x(?P<byte>[0-9a-fA-F]{2})|\\u(?P<short>[0-9a-fA-F]{4})|\\u\{(?P<braced>[0-9a-fA-F]{1,6})\}"
    r"|U\+(?P<point>[0-9a-fA-F]{4,6})\b|(?P<entity>&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});)"
)
_ESCAPES_MINIMUM = 2  # one escape may be a discount or a shop's name
_WORD = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=")
_HEX = re.compile(r"(?:0x)?(?:[0-9a-fA-F]{2}){4,}|[0-9a-fA-F]{2}(?:[ :,][0-9a-fA-F]{2}){3,}")
_GAP = re.compile(r"\s{1,3}")


class Part(NamedTuple):
    """A text that stands encoded between two positions."""

    start: int
    end: int
    text: str


def unescaped(text: str) -> str | None:
    """The text with its escapes undone; None where it has none worth undoing. Shorter than the text by one at least."""
    if not ("%" in text or "\\" in text or "&" in text or "U+" in text):
        return None
    plain, count = _ESCAPE.subn(_unescape, text)
    return plain if count >= _ESCAPES_MINIMUM and len(plain) < len(text) else None


def _unescape(match: re.Match[str]) -> str:
    if match["entity"]:
        return html.unescape(match["entity"])[:2]
    code = int(next(group for group in match.groups() if group is not None), 16)
    return chr(code) if code <= 0x10FFFF else ""


def encoded_parts(text: str) -> Iterator[Part]:
    """Each encoded word; words beside each other, as one text. Together at most three quarters of the text."""
    hexadecimal = [part for match in _HEX.finditer(text) if (part := _from_hex(match)) is not None]
    yield from hexadecimal
    run: list[re.Match[str]] = []
    for match in _WORD.finditer(text):
        if not _looks_encoded(match[0]) or any(part.start <= match.start() < part.end for part in hexadecimal[:64]):
            continue
        if run and not _GAP.fullmatch(text, run[-1].end(), match.start()):
            yield from _from_run(run)
            run = []
        run.append(match)
    yield from _from_run(run)


def _from_hex(match: re.Match[str]) -> Part | None:
    digits = re.sub(r"[ :,]", "", match[0].removeprefix("0x"))
    inner = _readable(bytes.fromhex(digits)) if len(digits) % 2 == 0 else None
    if inner is None or not any(character.isalpha() for character in inner):
        return None
    return Part(match.start(), match.end(), inner)


def _from_run(run: list[re.Match[str]]) -> Iterator[Part]:
    """A text that was cut into lines decodes only when put together; one that was encoded by words, word by word."""
    if not run:
        return
    whole = _from_base64("".join(match[0] for match in run)) if len(run) > 1 else None
    if whole is not None:
        yield Part(run[0].start(), run[-1].end(), whole)
        return
    found = [(match, inner) for match in run if (inner := _from_base64(match[0])) is not None]
    if len(found) > 1:
        yield Part(found[0][0].start(), found[-1][0].end(), " ".join(inner for _, inner in found))
    else:
        yield from (Part(match.start(), match.end(), inner) for match, inner in found)


def _looks_encoded(word: str) -> bool:
    """Cheap: ordinary words have no capital after the first letter, or nothing but capitals."""
    return word.endswith("=") or not (word[1:].islower() or word.isupper() or word.isdigit())


def _from_base64(word: str) -> str | None:
    """The text inside a base64 word, or None when there is none worth reading."""
    body = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _readable(base64.b64decode(body + "=" * (-len(body) % 4), validate=True))
    except (binascii.Error, ValueError):
        return None


def _readable(data: bytes) -> str | None:
    try:
        inner = data.decode()
    except ValueError:
        return None
    return inner if inner.isprintable() or all(c.isprintable() or c.isspace() for c in inner) else None


__all__ = ["Part", "encoded_parts", "unescaped"]
