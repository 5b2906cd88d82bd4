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


async def race(first: Start[T], second: Start[T], after: float, wins: Callable[[T], bool]) -> list[T]:
    """Every answer in the order in which they came; a winning one is the last.

    The second order is placed only when the first has not answered `after` seconds later. Whatever still runs when the
    race is won, fails with an exception or is broken off from outside, is canceled and waited for.
    """
    running = [asyncio.create_task(first())]
    answers: list[T] = []
    try:
        if not (await asyncio.wait(running, timeout=after))[0]:
            running.append(asyncio.create_task(second()))
        while running and not (answers and wins(answers[-1])):
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            task = next(task for task in running if task in done)
            running.remove(task)
            answers.append(task.result())
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
    return answers
