"""`python -m benchmarks.moderation`: what judging costs in time and memory, each row in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import platform
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks import moderation_pictures, moderation_texts
from benchmarks.moderation_pictures import PicturesReport
from benchmarks.moderation_texts import TextsReport

A = TypeVar("A")
R = TypeVar("R")


def main() -> None:
    """Prints the table."""
    console = Console(width=120)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; one core is used")
    rows = {
        "texts: rules and sentence classifier": _alone(moderation_texts.measure, True),
        "floor: rules alone": _alone(moderation_texts.measure, False),
    }
    console.print(_texts(rows))
    pictures: dict[str, tuple[int, str, bool]] = {
        "512 x 512 JPEG": (512, "JPEG", True),
        "1024 x 1024 JPEG": (1024, "JPEG", True),
        "1024 x 1024 PNG": (1024, "PNG", True),
        "1024 x 1024 WebP": (1024, "WEBP", True),
        "floor: 1024 x 1024 PNG, hash alone": (1024, "PNG", False),
    }
    console.print(_pictures({name: _alone(moderation_pictures.measure, case) for name, case in pictures.items()}))


def _alone(measure: Callable[[A], R], argument: A) -> R:
    """In a fresh process, so that memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (argument,))


def _texts(rows: dict[str, TextsReport]) -> Table:
    table = Table(title="Judging a text, without storing the verdict", title_justify="left")
    for column in ("", "p50 ms", "p99 ms", "per second of CPU, 64 at once", "resident MiB"):
        table.add_column(column, justify="left" if not column else "right")
    for name, report in rows.items():
        table.add_row(name, f"{report.p50:.1f}", f"{report.p99:.1f}", f"{report.rate:.0f}", f"{report.resident:.0f}")
    return table


def _pictures(rows: dict[str, PicturesReport]) -> Table:
    table = Table(title="Judging a picture, with all models of the service loaded", title_justify="left")
    for column in ("", "p50 ms", "p99 ms", "CPU ms", "resident MiB"):
        table.add_column(column, justify="left" if not column else "right")
    for name, report in rows.items():
        table.add_row(name, f"{report.p50:.1f}", f"{report.p99:.1f}", f"{report.cpu:.1f}", f"{report.resident:.0f}")
    return table


if __name__ == "__main__":
    main()
