"""HTTP's conditions and ranges (RFC 9110): what of a representation to send. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range lies wholly beyond the end: 416."""


@dataclass(frozen=True)
class Part:
    """The bytes from `first` to `last`, both included, of `size`."""

    first: int
    last: int
    size: int

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """The header's value."""
        return f"bytes {self.first}-{self.last}/{self.size}"


def part_of(header: str | None, size: int) -> Part | None:
    """The part that a Range header asks for; None when the whole is to be sent.

    Several ranges, other units and malformed headers are ignored, as the standard allows.
    """
    found = ONE_RANGE.fullmatch(header) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        wanted = int(found[2])
        first, last = max(0, size - wanted), size - 1
        satisfiable = wanted > 0 and size > 0
    else:
        first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        if found[2] and int(found[2]) < first:
            return None
        satisfiable = first < size
    if not satisfiable:
        raise Unsatisfiable
    return Part(first, last, size)


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names the entity tag, compared weakly."""
    if not header:
        return False
    tags = (tag.strip() for tag in header.split(","))
    return any(tag == "*" or tag.removeprefix("W/") == etag for tag in tags)
