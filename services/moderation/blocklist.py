"""Reads a file of blocked pictures: one a line, `<hash> <CATEGORY>`, `#` begins a comment.

A hash is a perceptual hash as ImageHash's `phash` prints it (16 hex digits) or a SHA-256 of the bytes (64 hex digits).
"""

from __future__ import annotations

import re
from pathlib import Path

from mesh.ids import derived_id
from services.moderation.perceptual import BlockedHash
from services.moderation.verdicts import Category

SOURCE = "file"
_LINE = re.compile(r"(?P<hash>[0-9a-f]{16}|[0-9a-f]{64})\s+(?P<category>[A-Z_]+)")


class BlocklistError(Exception):
    """A file of blocked pictures that cannot be used; the text names the file and every wrong line."""


def read_blocklist(path: Path) -> list[BlockedHash]:
    """The entries of the file. The same line always gives the same entry, so it may be read at every start."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BlocklistError(f"{path}: {error}") from error
    entries, mistakes = [], []
    for number, line in enumerate(lines, start=1):
        content = line.partition("#")[0].strip()
        match = _LINE.fullmatch(content)
        if match is not None and match["category"] in Category.__members__:
            entries.append(_entry(match["hash"], Category(match["category"])))
        elif content:
            mistakes.append(f"{path}:{number}: must be 16 or 64 lower-case hex digits and a category's name")
    if mistakes:
        raise BlocklistError("\n".join(mistakes))
    return entries


def _entry(digits: str, category: Category) -> BlockedHash:
    hash_id = derived_id("bhs", digits, category.value)
    if len(digits) == 16:
        return BlockedHash(hash_id, category, int(digits, 16))
    return BlockedHash(hash_id, category, None, digits)
