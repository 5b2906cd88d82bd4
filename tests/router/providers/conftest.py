"""Prints the table of what the contract suite has shown: provider, operation, and a cell for each promise."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table

from tests.router.providers.harness import HARNESSES
from tests.router.providers.harness_base import COLUMNS


class CellReport:
    """Collects the cells from the reports of all test processes."""

    def __init__(self) -> None:
        self.cells: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "cell":
                    self.cells[str(value)] = self.cells.get(str(value), True) and report.passed

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.cells:
            terminalreporter.write_line(drawn(self.cells))


def drawn(cells: dict[str, bool]) -> str:
    """The table as text; a number stands for a reason, told below."""
    reasons: dict[str, int] = {}
    table = Table("provider", "operation", *COLUMNS)
    for provider, operation in dict.fromkeys(tuple(cell.split("|")[:2]) for cell in sorted(cells)):
        shown = [_cell(cells, provider, operation, column, reasons) for column in COLUMNS]
        table.add_row(provider, operation, *shown)
    lines = Console(width=160, no_color=True)
    with lines.capture() as captured:
        lines.print(table)
        for reason, number in reasons.items():
            lines.print(f"  {number}  {reason}", highlight=False)
    return captured.get()


def _cell(cells: dict[str, bool], provider: str, operation: str, column: str, reasons: dict[str, int]) -> str:
    passed = cells.get(f"{provider}|{operation}|{column}")
    if passed is not None:
        return "yes" if passed else "FAILED"
    absent = HARNESSES[provider].absent
    reason = absent.get(f"{operation}/{column}") or absent.get(column, "")
    return f"({reasons.setdefault(reason, len(reasons) + 1)})" if reason else "?"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(CellReport(), "provider-table")
