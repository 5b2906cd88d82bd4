"""Load: a closed loop (each worker starts its next call when the last one ended) and an open one (calls at a rate)."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Call = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class Result:
    """rate: calls per second. p50 and p99: latency in milliseconds. failures: calls that raised."""

    rate: float
    p50: float
    p99: float
    calls: int
    failures: int


@dataclass(frozen=True)
class Sample:
    """latencies: milliseconds of calls that gave their result. seconds: from the first call's start to the last one's
    end. Samples of several rounds add up."""

    latencies: tuple[float, ...] = ()
    seconds: float = 0.0
    failures: int = 0

    def __add__(self, other: Sample) -> Sample:
        return Sample(self.latencies + other.latencies, self.seconds + other.seconds, self.failures + other.failures)

    def result(self) -> Result:
        """Failures count neither in the rate nor in the latencies; NaN where nothing came back."""
        known = self.latencies or (math.nan,)
        rate = len(self.latencies) / self.seconds if self.seconds else math.nan
        calls = len(self.latencies) + self.failures
        return Result(rate, statistics.median(known), percentile(list(known), 99), calls, self.failures)


async def closed_loop(call: Call, concurrency: int, calls: int) -> Result:
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


class _Timed:
    """Runs calls and keeps their latencies; tells of the first failure."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._latencies: list[float] = []
        self._failures = 0
        self._began = time.perf_counter()

    async def one(self, number: int, began: float) -> None:
        try:
            await self._call(number)
        except Exception as error:  # noqa: BLE001  a benchmark counts failures of any kind
            if not self._failures:
                print("first failure:", repr(error)[:300])
            self._failures += 1
        else:
            self._latencies.append((time.perf_counter() - began) * 1000)

    def sample(self) -> Sample:
        return Sample(tuple(self._latencies), time.perf_counter() - self._began, self._failures)


async def timed_loop(call: Call, concurrency: int, seconds: float, least: int = 0) -> Sample:
    """A closed loop that starts no call after `seconds`, once at least `least` have started; it waits for the last."""
    timed, numbers, ends = _Timed(call), itertools.count(), time.perf_counter() + seconds

    async def worker() -> None:
        while (number := next(numbers)) < least or time.perf_counter() < ends:
            await timed.one(number, time.perf_counter())

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return timed.sample()


async def open_loop(call: Call, rate: float, seconds: float) -> Sample:
    """Starts `rate` calls a second, evenly, whatever became of those before; latency counts from the planned start."""
    timed, began = _Timed(call), time.perf_counter()
    tasks = []
    for number in range(round(rate * seconds)):
        planned = began + number / rate
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        tasks.append(asyncio.create_task(timed.one(number, planned)))
    await asyncio.gather(*tasks)
    return timed.sample()


def percentile(values: list[float], share: int) -> float:
    """The value below which `share` percent of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
