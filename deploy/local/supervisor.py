"""Starts the process table, keeps it running, and stops it backwards."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from deploy.local.events import Event, Report
from deploy.local.home import Home, write_json
from deploy.local.kept import Kept, Restarts, Surroundings
from deploy.local.processes import Process
from deploy.local.strays import kill_strays, mark

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class SupervisorConfig:
    """environment: what every child gets. poll: seconds between two readiness checks."""

    home: Home
    environment: Mapping[str, str]
    report: Report
    restarts: Restarts = field(default_factory=Restarts)
    poll: float = 0.1


class Supervisor:
    """Owns the children of one mesh. `stop` may be called twice, and before `start`."""

    def __init__(self, table: Sequence[Process], config: SupervisorConfig) -> None:
        environment = {**config.environment, **mark(config.home.root)}
        around = Surroundings(environment, config.home.logs, self._report, config.restarts, config.poll)
        self._config = config
        self._kept = {process.name: Kept(process, around) for process in table}
        self._tasks: list[asyncio.Task[None]] = []
        self._state_file = config.home.run / "state.json"
        self._written: object = None

    async def start(self) -> None:
        """Returns when every process is ready. Raises StartError (kept.py); then call `stop`."""
        for kept in self._kept.values():
            self._tasks.append(kept.start([self._kept[name].up for name in kept.process.after]))
        self._tasks.append(asyncio.create_task(self._tick(), name="supervisor-tick"))
        ready = asyncio.ensure_future(self._all_up())
        await asyncio.wait({ready, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self._raise_failure()

    async def watch(self) -> None:
        """Ends only when a task of the supervisor failed, and raises its error."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        self._raise_failure()

    async def stop(self) -> None:
        """Stops in reverse order, each with its own bound; nothing is left afterwards."""
        for kept in reversed(self._kept.values()):
            if kept.standing.pid:
                self._config.report(Event("stopping", kept.process.name, "stopping"))
            await kept.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(kill_strays, self._config.home.root)
        self._state_file.unlink(missing_ok=True)

    def hurry(self) -> None:
        """Turns a stop in progress into an immediate one."""
        for kept in self._kept.values():
            kept.hurry()

    def _report(self, event: Event) -> None:
        """Hands the event on, once whoever reads the state file can see what it tells."""
        self._write_state()
        self._config.report(event)

    async def _all_up(self) -> None:
        for kept in self._kept.values():
            await kept.up.wait()

    async def _tick(self) -> None:
        """Caps the logs, and writes down what changed without an event."""
        while True:
            for kept in self._kept.values():
                kept.log.trim()
            self._write_state()
            await asyncio.sleep(TICK_SECONDS)

    def _write_state(self) -> None:
        """For `imagemesh status`; only what is news."""
        standings = [asdict(kept.standing) for kept in self._kept.values()]
        if standings != self._written:
            write_json(self._state_file, {"pid": os.getpid(), "time": time.time(), "processes": standings})
            self._written = standings

    def _raise_failure(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
