"""One process of the table, kept running until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deploy.local.events import Event, Kind, Report
from deploy.local.logfile import LogFile
from deploy.local.processes import ROOT, Process
from deploy.local.strays import kill_group

CHILD = Path(__file__).with_name("child.py")
State = Literal["waiting", "starting", "ready", "restarting", "stopped", "failed"]


class StartError(Exception):
    """A process never became ready; the text holds the end of its log."""


@dataclass(frozen=True)
class Restarts:
    """How a process is started again: waits double from `first` to `most` seconds, and begin anew after `calm` seconds
    of life. Before the process was ever ready, `attempts` failed starts end the whole mesh."""

    first: float = 0.2
    most: float = 10.0
    calm: float = 30.0
    attempts: int = 3


@dataclass(frozen=True)
class Surroundings:
    """What a kept process gets from its supervisor. poll: seconds between two readiness checks."""

    environment: Mapping[str, str]
    logs: Path
    report: Report
    restarts: Restarts = field(default_factory=Restarts)
    poll: float = 0.1


@dataclass(frozen=True)
class Standing:
    """What is known of the process now. pid is 0 while none runs."""

    name: str
    state: State
    pid: int = 0
    restarts: int = 0


class Kept:
    """Start it once; `stop` may be called any number of times, also before `start`."""

    def __init__(self, process: Process, surroundings: Surroundings) -> None:
        self.process = process
        self.log = LogFile(surroundings.logs, process.name)
        self.standing = Standing(process.name, "waiting")
        self.up = asyncio.Event()
        self._around = surroundings
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, after: Sequence[asyncio.Event]) -> asyncio.Task[None]:
        """Begins once everything in `after` is set. The task ends on stop, or raises StartError."""
        self._task = asyncio.create_task(self._keep(after), name=self.process.name)
        return self._task

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole group after the process's bound."""
        self._stopping.set()
        if self._task:
            await asyncio.wait({self._task})

    def hurry(self) -> None:
        """Makes a stop in progress, or a later one, kill at once."""
        self._hurry.set()

    async def _keep(self, after: Sequence[asyncio.Event]) -> None:
        for event in after:
            await self._unless_stopping(event.wait())
        delay, failures = self._around.restarts.first, 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                break
            if not self.up.is_set():
                failures += 1
                self._give_up_after(failures, code)
            if time.monotonic() - began > self._around.restarts.calm:
                delay = self._around.restarts.first
            self._fell(code, delay)
            await self._unless_stopping(asyncio.sleep(delay))
            delay = min(delay * 2, self._around.restarts.most)
        self.standing = replace(self.standing, state="stopped", pid=0)

    async def _run_once(self) -> int:
        """From start to end of one child; its exit status, negative for a signal."""
        self._tell("starting")
        began = time.monotonic()
        child = await self._spawn()
        self.standing = replace(self.standing, state="starting", pid=child.pid)
        ended = asyncio.ensure_future(child.wait())
        if await self._becomes_ready(ended):
            self.standing = replace(self.standing, state="ready")
            seconds = time.monotonic() - began
            self._tell("ready", f"ready after {seconds:.1f} s", {"pid": child.pid, "seconds": round(seconds, 3)})
            self.up.set()
            await self._unless_stopping(asyncio.shield(ended))
        if not ended.done():
            await self._end(child, ended)
        kill_group(child.pid)
        return await ended

    async def _spawn(self) -> asyncio.subprocess.Process:
        log = self.log.open()
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), *self.process.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**self._around.environment, **self.process.environment},
                start_new_session=True,
            )
        finally:
            os.close(log)

    async def _becomes_ready(self, ended: asyncio.Future[int]) -> bool:
        end = time.monotonic() + self.process.startup_seconds
        while time.monotonic() < end and not self._stopping.is_set():
            if await self.process.check.ready():
                return not ended.done()
            await asyncio.wait({ended}, timeout=self._around.poll)
            if ended.done():
                return False
        return False

    async def _end(self, child: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        if not self._hurry.is_set():
            child.send_signal(signal.SIGTERM)
            hurried = asyncio.ensure_future(self._hurry.wait())
            waited: set[asyncio.Future[Any]] = {ended, hurried}
            await asyncio.wait(waited, timeout=self.process.stop_seconds, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
        if not ended.done():
            if not self._hurry.is_set():
                self._tell("notice", "did not stop in time and was killed")
            kill_group(child.pid)

    async def _unless_stopping(self, work: Awaitable[Any]) -> None:
        """Waits for the work, but no longer than until the stop."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        waited: set[asyncio.Future[Any]] = {doing, stopping}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        doing.cancel()
        stopping.cancel()

    def _give_up_after(self, failures: int, code: int) -> None:
        if failures < self._around.restarts.attempts:
            return
        self.standing = replace(self.standing, state="failed", pid=0)
        raise StartError(
            f"{self.process.name} did not become ready ({_how(code)}); the end of {self.log.path}:\n{self.log.tail()}"
        )

    def _fell(self, code: int, delay: float) -> None:
        self.standing = replace(self.standing, state="restarting", pid=0, restarts=self.standing.restarts + 1)
        self._tell("ended", f"{_how(code)}; starting again in {delay:.1f} s", {"code": code})

    def _tell(self, kind: Kind, text: str = "", details: dict[str, object] | None = None) -> None:
        self._around.report(Event(kind, self.process.name, text, details or {}))


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    return f"killed by {signal.Signals(-code).name}"
