"""Asking a second candidate while the first one is slow. Whoever delivers first wins; the other order is broken off.

After Dean and Barroso, "The Tail at Scale" (CACM 56/2, 2013): the second request goes out only once the first has
taken longer than 95 of 100 do, so that few jobs cost twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Start = Callable[[], Coroutine[Any, Any, T]]
StartOrNot = Callable[[], Coroutine[Any, Any, T] | None]


async def race(first: Start[T], second: StartOrNot[T], after: float, wins: Callable[[T], bool]) -> list[T]:
    """Every answer; a winning one is the last.

    The second order is placed only when the first has not answered `after` seconds later; None says that nobody may be
    asked then. Whatever still runs when the race is won or is broken off from outside, is canceled and waited for. An
    exception ends the race only when nobody else wins it: what the other one draws is paid for.
    """
    running = [asyncio.create_task(first())]
    answers: list[T] = []
    failures: list[BaseException] = []
    try:
        if not (await asyncio.wait(running, timeout=after))[0] and (beside := second()) is not None:
            running.append(asyncio.create_task(beside))
        while running and not (answers and wins(answers[-1])):
            done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            _sort_out([task for task in running if task in done], answers, failures)
            running = [*left]
            answers.sort(key=wins)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
    late: list[T] = []
    _sort_out([task for task in running if not task.cancelled()], late, failures)
    if failures and not (answers and wins(answers[-1])):
        raise failures[0]
    return [*late, *answers]


def _sort_out(ended: list[asyncio.Task[T]], answers: list[T], failures: list[BaseException]) -> None:
    for task in ended:
        failure = task.exception()
        if failure is None:
            answers.append(task.result())
        else:
            failures.append(failure)
