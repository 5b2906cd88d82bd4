"""The prompts in `data/`: `train`, `eval` and `eval2` were written apart; each file is a category or a kind of
benign prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.moderation.verdicts import Category

DATA = Path(__file__).parent / "data"
LEARNED = (
    Category.SEXUAL,
    Category.VIOLENCE,
    Category.GORE,
    Category.HATE,
    Category.HARASSMENT,
    Category.SELF_HARM,
    Category.ILLEGAL,
    Category.WEAPONS,
)
CAPTION_FILES = frozenset({"captions", "everyday_sentences"})


@dataclass(frozen=True)
class Prompt:
    """One line. category: None when benign. kind: the file's name."""

    text: str
    kind: str
    category: Category | None

    @property
    def in_image_style(self) -> bool:
        """Whether it is benign and written as people write for image models."""
        return self.category is None and self.kind not in CAPTION_FILES


def read(split: str) -> list[Prompt]:
    """Every prompt of `train`, `eval` or `eval2`."""
    folder = DATA / split
    harmful = [
        Prompt(line, path.stem, Category(path.stem)) for path in _files(folder / "harmful") for line in _lines(path)
    ]
    benign = [Prompt(line, path.stem, None) for path in _files(folder / "benign") for line in _lines(path)]
    return harmful + benign


def styles() -> list[str]:
    """What people add to a prompt for its looks; added to harmful and benign ones alike, so that it means nothing."""
    return list(_lines(DATA / "train" / "styles.txt"))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt"))


def _lines(path: Path) -> Iterator[str]:
    return (line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
