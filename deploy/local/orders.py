"""What is done to a running mesh from outside: stop it, look at it, notice that its owner went away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable

from deploy.local.events import Event, Report
from deploy.local.home import Home, HomeLock, read_json
from deploy.local.strays import kill, kill_strays
from deploy.local.triton import remove_shared_memory

DOWN_SECONDS = 120.0
POLL_SECONDS = 0.05


def take_down(home: Home, report: Report) -> int:
    """Stops the launcher of this home, by force after two minutes, and sweeps what a killed one left. Exit status."""
    pid = HomeLock(home).holder()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        if not _released(home, DOWN_SECONDS):
            kill(pid)
            _released(home, POLL_SECONDS * 20)
    lock = HomeLock(home)
    if not lock.take():
        report(Event("failed", "", f"launcher {pid} does not stop"))
        return 1
    strays = kill_strays(home.root)
    remove_shared_memory(home.triton_work)
    home.endpoints.unlink(missing_ok=True)
    lock.release()
    report(Event("stopped", "", "stopped, no process is left" if pid or strays else "no mesh was up"))
    return 0


def status_of(home: Home) -> Event:
    """One event: `up` with the launcher's state and the endpoints, or `stopped`."""
    pid = HomeLock(home).holder()
    if pid is None:
        return Event("stopped", "", "no mesh is up")
    endpoints = read_json(home.endpoints)
    details: dict[str, object] = {
        "pid": pid,
        "endpoints": endpoints or {},
        "processes": (read_json(home.run / "state.json") or {}).get("processes", []),
    }
    return Event("up" if endpoints else "starting", "", "up" if endpoints else "starting or stopping", details)


def owner_gone(loop: asyncio.AbstractEventLoop, tell: Callable[[], None]) -> None:
    """Calls `tell` once when standard input ends: the process at its other end is no more."""
    descriptor = sys.stdin.fileno()

    def read() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            tell()

    loop.add_reader(descriptor, read)


def _released(home: Home, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if HomeLock(home).holder() is None:
            return True
        time.sleep(POLL_SECONDS)
    return False
