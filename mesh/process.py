"""How a process of the mesh runs: one event loop, one stop signal, owned background tasks."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from mesh.telemetry import logger

SWITCH_SECONDS = 0.001

Main = Callable[[asyncio.Event], Awaitable[None]]


def run(main: Main) -> None:
    """Runs `main(stopping)` on uvloop; SIGTERM and SIGINT set `stopping`, and `main` is to return soon after."""
    # A SQL thread gives the interpreter lock up at each statement; the default of 5 ms to get it back from a busy loop
    # is longer than the statement.
    sys.setswitchinterval(SWITCH_SECONDS)
    uvloop.run(_main(main))


async def _main(main: Main) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await main(stopping)


class Background:
    """A task with an owner: its exception is logged when it happens and raised again by `stop`.

    `start` may be called once; `stop` cancels the task, may be called twice, and before `start` does nothing.
    """

    def __init__(self, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        self._name = name
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins the work in the running loop."""
        if self._task is not None:
            raise RuntimeError(f"{self._name} is started already")
        self._task = asyncio.create_task(self._run(), name=self._name)

    @property
    def running(self) -> bool:
        """True between start and the end of the work."""
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """Cancels the work, waits for its end, and raises what it failed with."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise

    async def _run(self) -> None:
        try:
            await self._work()
        except asyncio.CancelledError:
            raise
        except BaseException:
            logger(__name__).exception("background task failed", task=self._name)
            raise
