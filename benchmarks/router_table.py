"""The table of `benchmarks.router`: what was measured beside what was aimed at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from benchmarks.litellm_proxy import PACKAGE
from benchmarks.load import Result, Sample

FLOOR, PEER, MESH, SHIPPED = "stub itself", "LiteLLM proxy", "imagemesh", "imagemesh as shipped"
SIZES = {"small": "20 KB", "large": "1.5 MB"}
ADDED_AT_ONE = {"small": 25.0, "large": 100.0}
OPEN_MARGIN_MS = 25.0
KEPT_SHARE = 0.9

NOTES = """\
Floor: the same client asking the stub, so its rate is what the load generator and the stub can do together. "+p50" and
"+p99": milliseconds above the floor's p50 and p99 in the same row. A row of imagemesh ends with the original's bytes
fetched from its signed address: durable job, prompt and picture judged (rules, decode and hash), stored, published,
metered; the proxy passes one POST on and keeps nothing. All processes, stubs and the load generator share the cores;
imagemesh is free to use more than one, the proxy is one process with one worker, without database or callbacks."""


@dataclass(frozen=True)
class Case:
    """One row. size: of the stub's picture; latency_ms: of the stub; an open loop has a rate and no concurrency."""

    size: str
    latency_ms: int
    concurrency: int = 0
    open_rate: float = 0.0

    @property
    def route(self) -> str:
        """The name of its stub, and of the model that asks it."""
        return f"{self.size}-{self.latency_ms}"

    def __str__(self) -> str:
        load = f"open.{self.open_rate:g}" if self.open_rate else f"c.{self.concurrency}"
        return f"{self.route}-{load}"


@dataclass(frozen=True)
class Report:
    """samples: by case and system. before, after: resident MiB by process, idle and at the end. missing: why there is
    no proxy, empty where there is one."""

    samples: Mapping[Case, Mapping[str, Sample]]
    before: Mapping[str, float]
    after: Mapping[str, float]
    seconds: float
    missing: str


@dataclass(frozen=True)
class Aim:
    """What was aimed at in a row, and whether it was reached; None where that was not measured."""

    text: str
    met: bool | None


def show(console: Console, cases: Sequence[Case], report: Report) -> None:
    """Prints table, memory and notes."""
    results = {case: {name: s.result() for name, s in cells.items()} for case, cells in report.samples.items()}
    console.print(_table(cases, results))
    if any(SHIPPED in cells for cells in results.values()):
        console.print(_shipped(results))
    if report.missing:
        console.print(f"{PACKAGE} could not be installed: {report.missing}", markup=False)
    unrun = [str(case) for case in cases if case not in results]
    if unrun:
        console.print(f"Not run for want of time: {', '.join(unrun)}")
    console.print(_memory(report))
    console.print(f"{NOTES}\nPeer: {PACKAGE}. Measured for {report.seconds:.0f} s.", markup=False)


def _table(cases: Sequence[Case], results: Mapping[Case, Mapping[str, Result]]) -> Table:
    table = Table(title="Router: one stub provider, on loopback", title_justify="left")
    for column in ("picture", "stub", "load", "floor/s", "p50", "p99"):
        table.add_column(column, justify="right")
    for column in ("LiteLLM/s", "+p50", "+p99", "imagemesh/s", "+p50", "+p99", "failed"):
        table.add_column(column, justify="right")
    table.add_column("aim")
    table.add_column("met")
    for case in cases:
        cells = results.get(case, {})
        if MESH in cells:
            aim = aim_of(case, results)
            met = "" if aim is None or aim.met is None else ("yes" if aim.met else "NO")
            table.add_row(*_case(case), *_numbers(cells), "" if aim is None else aim.text, met)
    return table


def _shipped(results: Mapping[Case, Mapping[str, Result]]) -> Table:
    table = Table(title="As shipped: the built-in classifiers judge every prompt and picture too", title_justify="left")
    for column in ("picture", "stub", "load", "imagemesh/s", "+p50", "+p99"):
        table.add_column(column, justify="right")
    for case, cells in results.items():
        if SHIPPED in cells:
            table.add_row(*_case(case), *_added(cells[SHIPPED], cells[FLOOR]))
    return table


def _added(result: Result, floor: Result) -> list[str]:
    return [f"{result.rate:.1f}", f"{result.p50 - floor.p50:.0f}", f"{result.p99 - floor.p99:.0f}"]


def _case(case: Case) -> tuple[str, str, str]:
    load = f"{case.open_rate:g}/s open" if case.open_rate else f"c={case.concurrency}"
    return SIZES[case.size], f"{case.latency_ms} ms" if case.latency_ms else "instant", load


def _numbers(cells: Mapping[str, Result]) -> list[str]:
    floor = cells[FLOOR]
    shown = [f"{floor.rate:.0f}", f"{floor.p50:.1f}", f"{floor.p99:.1f}"]
    for name in (PEER, MESH):
        result = cells.get(name)
        shown += ["-", "-", "-"] if result is None else _added(result, floor)
    failed = [result.failures for result in cells.values()]
    return [*shown, "/".join(map(str, failed)) if any(failed) else "0"]


def aim_of(case: Case, results: Mapping[Case, Mapping[str, Result]]) -> Aim | None:
    """The aim of a row, if it has one."""
    ours, floor, peer = results[case][MESH], results[case][FLOOR], results[case].get(PEER)
    if case.open_rate:
        met = None if peer is None else ours.p50 <= peer.p50 + OPEN_MARGIN_MS
        return Aim(f"p50 ≤ its + {OPEN_MARGIN_MS:g} ms", met)
    if case.latency_ms == 0 and case.concurrency == 1:
        most = ADDED_AT_ONE[case.size]
        return Aim(f"≤ {most:g} ms added", ours.p50 - floor.p50 <= most)
    if case.latency_ms == 0 and case.concurrency >= 16:
        return Aim("rate ≥ its", None if peer is None else ours.rate >= peer.rate)
    if case.concurrency >= 64:
        instant = results.get(replace(case, latency_ms=0), {}).get(MESH)
        wanted = math.nan if instant is None else instant.rate * KEPT_SHARE
        return Aim("≥ 90 % of instant", None if instant is None else ours.rate >= wanted)
    return None


def _memory(report: Report) -> Table:
    table = Table(title="Resident memory, MiB", title_justify="left")
    table.add_column("process")
    table.add_column("idle", justify="right")
    table.add_column("after the run", justify="right")
    for name, after in sorted(report.after.items()):
        table.add_row(name, f"{report.before[name]:.0f}", f"{after:.0f}")
    ours = [name for name in report.after if name.startswith(f"{MESH}: ") and not name.endswith("inference")]
    sums = (sum(found[name] for name in ours) for found in (report.before, report.after))
    table.add_row(f"{MESH}: all but inference, which is not used here", *(f"{value:.0f}" for value in sums))
    return table
