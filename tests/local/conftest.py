"""A home of its own for each test, and a supervisor over tiny real processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local.events import Event
from deploy.local.home import Home, open_home
from deploy.local.kept import Restarts
from deploy.local.ports import Ports, Reservations, choose_ports
from deploy.local.processes import Process
from deploy.local.strays import find_strays, kill_strays
from deploy.local.supervisor import Supervisor, SupervisorConfig

TINY = Path(__file__).with_name("tiny.py")


@dataclass(frozen=True)
class FileThere:
    """Ready once the process has written its file."""

    path: Path

    async def ready(self) -> bool:
        """True when the file exists."""
        return self.path.exists()


def other_ports() -> Ports:
    """Free ports that are none of the usual ones, so that tests side by side keep apart."""
    with Reservations() as reservations:
        return choose_ports(Ports(*[0] * len(vars(Ports()))), reservations)


@dataclass
class Stage:
    """Builds processes and a supervisor under one home, and remembers what was reported."""

    home: Home
    events: list[Event] = field(default_factory=list)

    def process(self, name: str, *arguments: str, after: tuple[str, ...] = (), stop: float = 3.0) -> Process:
        """`tiny.py` in one of its manners; it writes `run/<name>` when ready."""
        ready = self.home.run / name
        command = (sys.executable, "-S", str(TINY), str(ready), *arguments)
        return Process(name, command, FileThere(ready), {}, after, startup_seconds=5.0, stop_seconds=stop)

    def supervisor(self, *table: Process) -> Supervisor:
        """Quick to restart and to poll."""
        restarts = Restarts(first=0.01, most=0.1)
        config = SupervisorConfig(self.home, dict(os.environ), self.events.append, restarts, poll=0.01)
        return Supervisor(table, config)

    def seen(self, kind: str) -> list[str]:
        """Names of the processes that an event of the kind was about, in order."""
        return [event.process for event in self.events if event.kind == kind]

    def pid(self, name: str) -> int:
        """The id that the process wrote when it became ready."""
        return int((self.home.run / name).read_text().split()[0])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty home; whatever a failed test left running in it is killed."""
    home = open_home(tmp_path / "home")
    yield home
    kill_strays(home.root)


@pytest.fixture
def stage(home: Home) -> Iterator[Stage]:
    """Tiny processes in a home; none of them may outlive the test."""
    stage = Stage(home)
    yield stage
    assert find_strays(home.root) == []
