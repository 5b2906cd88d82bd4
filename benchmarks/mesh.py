"""`make bench`: submits per second, whole jobs per second, time per hop, memory per process."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import jobs, submits
from benchmarks.jobs import JobsReport
from benchmarks.load import Result


def main() -> None:
    """Prints every table."""
    console = Console(width=120)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="imagemesh-bench-") as name:
        folder = Path(name)
        rates = asyncio.run(submits.measure(folder / "submits"))
        console.print(_rates("Acknowledged submits (SQLite, synchronous=FULL, workers stopped)", rates))
        for size, text in (("small", "20 KB"), ("large", "1.5 MB, 1024²")):
            report = asyncio.run(jobs.measure(folder / size, size))
            rows = {"whole jobs": report.mesh, "floor: client asks the stub itself": report.floor}
            console.print(_rates(f"Whole jobs, {text} a picture: GenerateImage to the original's bytes", rows))
            console.print(_parts(report))


def _rates(title: str, rows: dict[str, list[Result]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("", "concurrency", "per second", "p50 ms", "p99 ms", "failures"):
        table.add_column(column, justify="left" if not column else "right")
    for name, results in rows.items():
        for concurrency, result in zip(jobs.CONCURRENCIES, results, strict=True):
            numbers = (f"{result.rate:.0f}", f"{result.p50:.1f}", f"{result.p99:.1f}", str(result.failures))
            table.add_row(name, str(concurrency), *numbers)
    return table


def _parts(report: JobsReport) -> Table:
    table = Table(title="Where the time and the memory are", title_justify="left")
    table.add_column("span or process")
    table.add_column("median ms", justify="right")
    table.add_column("resident MiB", justify="right")
    for name, milliseconds in report.hops.items():
        table.add_row(name, f"{milliseconds:.1f}", "")
    for name, mebibytes in report.memory.items():
        table.add_row(name, "", f"{mebibytes:.0f}")
    return table


if __name__ == "__main__":
    main()
