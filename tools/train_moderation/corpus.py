"""The prompts in `data/`: `train`, `eval`, `eval2` and `eval3` were written apart; each file is a category or a kind
of benign prompt, a line a prompt. A line that begins with `#` is the heading of those below it: their topic.
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
CAPTION_FILES = frozenset({"captions", "everyday_sentences", "ordinary_sentences"})
BORDER = "near_"  # begins the names of files with benign prompts that were written to resemble harmful ones


@dataclass(frozen=True)
class Prompt:
    """One line. category: None when benign. kind: the file's name. topic: the heading above it, empty for none."""

    text: str
    kind: str
    category: Category | None
    topic: str = ""

    @property
    def in_image_style(self) -> bool:
        """Whether it is benign and written as people write for image models."""
        return self.category is None and self.kind not in CAPTION_FILES and not self.kind.startswith(BORDER)


def read(split: str) -> list[Prompt]:
    """Every prompt of `train` or of an evaluation's folder."""
    folder = DATA / split
    harmful = [prompt for path in _files(folder / "harmful") for prompt in _prompts(path, Category(path.stem))]
    benign = [prompt for path in _files(folder / "benign") for prompt in _prompts(path, None)]
    return harmful + benign


def styles() -> list[str]:
    """What people add to a prompt for its looks; added to harmful and benign ones alike, so that it means nothing."""
    return list(_lines(DATA / "train" / "styles.txt"))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.txt"))


def _prompts(path: Path, category: Category | None) -> Iterator[Prompt]:
    topic = ""
    for line in _lines(path):
        if line.startswith("#"):
            topic = line.lstrip("# ")
        else:
            yield Prompt(line, path.stem, category, topic)


def _lines(path: Path) -> Iterator[str]:
    return (line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
