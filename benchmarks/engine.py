"""`python -m benchmarks.engine [--quick]`: what the step scheduler costs and gains, on the CPU with one thread.

(a) one request against the bare diffusers pipeline; (b) eight at once against one after another; (c) short requests
beside four long ones; (d) through Triton and gRPC against in process. Runs of both sides alternate; ratios are taken
run by run, and their median and quartiles are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from benchmarks.engine_parts import (
    Bare,
    Spread,
    behind_triton,
    draw,
    draw_by_rpc,
    in_process,
    ratios,
    request_of,
    spread,
)
from deploy.local.engine import triton_obstacle
from services.inference.catalog import Models
from services.inference.engine.manifest import read_models
from services.inference.engines.base import Engine

MODELS = Path(__file__).resolve().parents[1] / "models"
STEPS, LONG, SHORT = 20, 50, 4
CONCURRENT, LONG_ONES = 8, 4
WINDOWS = 4  # stretches without and with short requests, by turns


@dataclass(frozen=True)
class Effort:
    """How much is measured. runs: of each side; samples: short requests beside the long ones."""

    runs: int = 12
    samples: int = 100


QUICK = Effort(runs=3, samples=12)


@dataclass(frozen=True)
class Row:
    """A line of the table. `kept` is None where a number only informs."""

    name: str
    told: str
    limit: str = ""
    kept: bool | None = None


Side = Callable[[], Awaitable[float]]


async def by_turns(runs: int, first: Side, second: Side) -> tuple[Spread, Spread]:
    """Both sides, alternately; one unmeasured run of each goes before."""
    await first()
    await second()
    pairs = [(await first(), await second()) for _ in range(runs)]
    return spread([pair[0] for pair in pairs]), spread([pair[1] for pair in pairs])


async def alone(engine: Engine, models: Models, effort: Effort) -> list[Row]:
    """(a)"""
    request = request_of(models, "alone", STEPS)
    bare = await asyncio.to_thread(Bare, MODELS / request.model_id)
    ours, theirs = await by_turns(
        effort.runs, lambda: draw(engine, request), lambda: asyncio.to_thread(bare.draw, request)
    )
    ratio = ratios(ours, theirs)
    return [
        Row("(a) bare diffusers pipeline, 20 steps, ms", theirs.text()),
        Row("(a) engine in process, ms", ours.text()),
        Row("(a) overhead, %", _percent(ratio), "at most 5", ratio.median <= 1.05),
    ]


async def together(engine: Engine, models: Models, effort: Effort) -> list[Row]:
    """(b)"""
    requests = [request_of(models, f"mate {number}", STEPS, seed=number) for number in range(CONCURRENT)]

    async def at_once() -> float:
        begun = perf_counter()
        await asyncio.gather(*(draw(engine, request) for request in requests))
        return perf_counter() - begun

    async def in_turn() -> float:
        begun = perf_counter()
        for request in requests:
            await draw(engine, request)
        return perf_counter() - begun

    shared, serial = await by_turns(effort.runs, at_once, in_turn)
    gain = ratios(serial, shared)
    return [
        Row("(b) eight one after another, ms", serial.text()),
        Row("(b) eight at once, ms", shared.text()),
        Row("(b) images/s, times", gain.text(1.0), "at least 1.3", gain.median >= 1.3),
    ]


class LongOnes:
    """Requests of 50 steps that are always running, and when each of their steps was made."""

    def __init__(self, engine: Engine, models: Models) -> None:
        self._engine = engine
        self._models = models
        self.steps: list[float] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> LongOnes:
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(LONG_ONES)]
        while len(self.steps) < LONG_ONES:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def rate(self, begun: float, ended: float) -> float:
        """Their steps a second between two moments."""
        return sum(begun <= moment < ended for moment in self.steps) / (ended - begun)

    async def _keep(self, number: int) -> None:
        request = request_of(self._models, f"long {number}", LONG, seed=number)
        turn = 0
        while True:
            turn += 1
            await draw(self._engine, replace(request, request_id=f"long {number}.{turn}"), self.steps)


async def mixed(engine: Engine, models: Models, effort: Effort) -> list[Row]:
    """(c)"""
    request = request_of(models, "short", SHORT)
    await draw(engine, request)
    solo = spread([await draw(engine, request) for _ in range(max(10, effort.samples // 4))])
    beside: list[float] = []
    shares: list[float] = []
    async with LongOnes(engine, models) as long_ones:
        for _ in range(WINDOWS):
            begun = perf_counter()
            beside += [await draw(engine, request) for _ in range(effort.samples // WINDOWS)]
            middle = perf_counter()
            await asyncio.sleep(middle - begun)
            with_short = long_ones.rate(begun, middle)
            shares.append(with_short / long_ones.rate(middle, perf_counter()))
    p95 = spread(beside).percentile(95)
    serial = LONG / SHORT * LONG_ONES
    share = spread(shares)
    return [
        Row("(c) 4 steps alone, ms", solo.text()),
        Row(f"(c) 4 steps beside four of 50, {len(beside)} samples, ms", spread(beside).text()),
        Row("(c) p95 over solo, times", f"{p95 / solo.median:.2f}", "at most 4", p95 <= 4 * solo.median),
        Row("(c) the same behind four whole drawings, at least, times", f"{serial:.0f}"),
        Row("(c) the long ones keep, %", share.text(100.0), "at least 60", share.median >= 0.6),
    ]


async def through_triton(engine: Engine, models: Models, effort: Effort) -> list[Row]:
    """(d)"""
    if obstacle := triton_obstacle():
        return [Row("(d) not measured", f"Triton cannot run here: {obstacle}")]
    request = request_of(models, "through", STEPS)
    with tempfile.TemporaryDirectory(prefix="imagemesh-bench-") as work:
        async with behind_triton(models, MODELS, Path(work)) as stub:
            far, near = await by_turns(effort.runs, lambda: draw_by_rpc(stub, request), lambda: draw(engine, request))
    ratio = ratios(far, near)
    return [
        Row("(d) in process, ms", near.text()),
        Row("(d) through gRPC and Triton, ms", far.text()),
        Row("(d) overhead, %", _percent(ratio), "at most 5", ratio.median <= 1.05),
    ]


CASES = {"a": alone, "b": together, "c": mixed, "d": through_triton}


async def measure(names: str, effort: Effort) -> list[Row]:
    """The rows of the cases that `names` spells."""
    models = Models(read_models(MODELS))
    rows: list[Row] = []
    async with in_process(models) as engine:
        for name in names:
            rows += await CASES[name](engine, models, effort)
    return rows


def _percent(ratio: Spread) -> str:
    return Spread(tuple(value - 1 for value in ratio.values)).text(100.0)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few runs: shows that it works, proves nothing")
    parser.add_argument("--only", default="abcd", help="some of the letters a, b, c, d")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.only, QUICK if options.quick else Effort()))
    table = Table(title=f"Demo model, {os.cpu_count()} cores ({platform.machine()}), one thread; median (quartiles)")
    for column in ("", "measured", "promised", "kept"):
        table.add_column(column, justify="right" if column == "measured" else "left")
    for row in rows:
        table.add_row(row.name, row.told, row.limit, {None: "", True: "yes", False: "NO"}[row.kept])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
