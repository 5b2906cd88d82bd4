"""What operators wish at the same time is all kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.inference.wishes import Wishes, read_unwanted

NAMES = [f"model-{number}" for number in range(40)]


def test_wishes_made_at_once_are_all_kept(tmp_path: Path) -> None:
    wishes = Wishes(tmp_path / "unloaded.json")
    with ThreadPoolExecutor(8) as operators:
        list(operators.map(wishes.unload, NAMES))
        assert wishes.unwanted == read_unwanted(tmp_path / "unloaded.json") == set(NAMES)
        list(operators.map(wishes.load, NAMES[10:]))
    assert read_unwanted(tmp_path / "unloaded.json") == set(NAMES[:10])
