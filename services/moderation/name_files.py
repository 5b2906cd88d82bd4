"""Reads lists of names from text files, and the cues beside them.

A line is one name with its other spellings, `Angela Merkel | Bundeskanzlerin Merkel`; the first is what evidence calls
it. A spelling that ends in `?` counts only beside a cue. `#` begins a comment. The file's name, without `.txt`, is the
name under which policies ask for the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import yaml

from services.moderation.lexicon import words_of
from services.moderation.names import Cues, Name, NameIndex
from services.moderation.verdicts import Category

BUILT_IN = Path(__file__).parent / "gazetteers"
CUES = "cues.yaml"
LINES_LIMIT = 50_000
SPELLING_LIMIT = 80


class NameFileError(Exception):
    """A list of names that cannot be used; the text names the file and each bad line."""


@lru_cache(maxsize=1)
def built_in_names() -> NameIndex:
    """The lists that come with the service; read once a process."""
    return read_names()


def read_names(own: Path | None = None) -> NameIndex:
    """The built-in lists, and those in the folder `own`, which may replace built-in ones of the same name.

    Raises NameFileError with every mistake of a file.
    """
    folders = [BUILT_IN] if own is None else [BUILT_IN, own]
    if own is not None and not own.is_dir():
        raise NameFileError(f"{own}: is no folder")
    lists = {path.stem: tuple(_names(path)) for folder in folders for path in sorted(folder.glob("*.txt"))}
    cues, defaming = _cues(BUILT_IN / CUES)
    return NameIndex(lists, cues, defaming)


def _names(path: Path) -> Iterator[Name]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NameFileError(f"{path}: {error}") from error
    if len(lines) > LINES_LIMIT:
        raise NameFileError(f"{path}: {len(lines)} lines, at most {LINES_LIMIT}")
    mistakes: list[str] = []
    for number, line in enumerate(lines, start=1):
        given = [part.strip() for part in line.partition("#")[0].split("|")]
        if given == [""]:
            continue
        if all(_usable(spelling) for spelling in given):
            yield from (Name(each.rstrip("?").strip(), given[0].rstrip("?"), not each.endswith("?")) for each in given)
        else:
            mistakes.append(f"{path}:{number}: a spelling has 1 to {SPELLING_LIMIT} characters and at least one letter")
    if mistakes:
        raise NameFileError("\n".join(mistakes))


def _usable(spelling: str) -> bool:
    return 0 < len(spelling) <= SPELLING_LIMIT and words_of(spelling) > 0


def _cues(path: Path) -> tuple[Mapping[Category, Cues], tuple[str, ...]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaming = tuple(document.pop("defaming"))
    return {Category(name): Cues(**cues) for name, cues in document.items()}, defaming


__all__ = ["BUILT_IN", "NameFileError", "built_in_names", "read_names"]
