"""A closed loop: so many workers, each starting its next call when the last one ended."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """rate: calls per second. p50 and p99: latency in milliseconds. failures: calls that raised."""

    rate: float
    p50: float
    p99: float
    calls: int
    failures: int


async def closed_loop(call: Callable[[int], Awaitable[object]], concurrency: int, calls: int) -> Result:
    """Runs `call(n)` for n from 0 to `calls`, never more than `concurrency` at once."""
    numbers = itertools.count()
    latencies: list[float] = []
    failures = 0

    async def worker() -> None:
        nonlocal failures
        while (number := next(numbers)) < calls:
            began = time.perf_counter()
            try:
                await call(number)
            except Exception as error:  # noqa: BLE001  a benchmark counts failures of any kind
                failures += 1
                if failures == 1:
                    print("first failure:", repr(error)[:500])
            latencies.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    seconds = time.perf_counter() - began
    return Result(calls / seconds, statistics.median(latencies), percentile(latencies, 99), calls, failures)


def percentile(values: list[float], share: int) -> float:
    """The value below which `share` percent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
