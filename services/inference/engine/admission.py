"""Who is drawn and who waits: slots, the device's memory, and two lanes.

People's requests go first, four to one (`Limits.share`), both when slots are given out and when steps are made; what
waits in a lane keeps its order. So that neither lane shuts the other out, requests in the BATCH lane never hold the
last quarter of the slots or of the waiting list, and one of them is taken after every four of the others.

Beside long requests a short one would make each of its few steps in company, at several times the cost of its own. So
short requests of people make a step of their own after each that is shared, as long as they are a small part of all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from services.inference.engine.errors import EngineFull
from services.inference.engine.request import DrawRequest, Lane
from services.inference.engine.work import Phase, Work

MIB = 2**20
SHORT = 4  # a request is short beside one of this many times its steps
FEW = 3  # short requests hurry while all rows are this many times theirs, which bounds what the others lose


@dataclass(frozen=True)
class Limits:
    """What one engine takes on.

    `slots`: requests drawn at once. `waiting`: requests that may wait. `rows`: of one forward pass (guidance takes two
    a picture). `memory`: bytes of the device for the rows of all that is drawn at once; 0 does not count them.
    `pixel_bytes`: what a row takes of it for each pixel of its picture. `share`: turns of the INTERACTIVE lane for one
    of the BATCH lane while both have something to do.
    """

    slots: int = 8
    waiting: int = 64
    rows: int = 16
    memory: int = 0
    pixel_bytes: float = 0.0
    share: int = 4

    def memory_of(self, request: DrawRequest) -> int:
        """Bytes of the device that the request takes while it is drawn."""
        return round(self.pixel_bytes * request.width * request.height * request.rows)

    def slots_of(self, lane: Lane) -> int:
        """The most slots a lane holds."""
        return self.slots - (_quarter(self.slots) if lane is Lane.BATCH else 0)

    def waiting_of(self, lane: Lane) -> int:
        """How long the waiting list may be after a request of this lane was added."""
        return self.waiting - (_quarter(self.waiting) if lane is Lane.BATCH else 0)


def _quarter(places: int) -> int:
    """A quarter, at least one, and none of a single place."""
    return max(1, places // 4) if places > 1 else 0


class Admission:
    """The waiting lists and the slots. It has no lock: its owner calls one method at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes: dict[Lane, deque[Work]] = {lane: deque() for lane in Lane}
        self._running: list[Work] = []
        self._turns = 0  # of the INTERACTIVE lane since the last of the BATCH lane
        self._rounds = 0
        self._hurried = False  # whether the last round was of short requests only

    @property
    def works(self) -> list[Work]:
        """Everything that has not ended: what is drawn, then what waits."""
        waiting = [work for lane in self._lanes.values() for work in lane]
        return [work for work in [*self._running, *waiting] if work.phase is not Phase.ENDED]

    @property
    def memory_promised(self) -> int:
        """Bytes of the device that requests being drawn may use."""
        return sum(work.memory for work in self._running if work.phase is not Phase.ENDED)

    def offer(self, work: Work) -> None:
        """Takes a request in, after `start`; EngineFull when it could neither start now nor wait."""
        limits = self._limits
        if limits.memory and work.memory > limits.memory:
            needed, there = (f"{size / MIB:.0f} MiB" for size in (work.memory, limits.memory))
            raise EngineFull(
                f"the request needs {needed} on the device and there are {there}; ask for fewer or smaller pictures"
            )
        lane = self._lanes[work.lane]
        lane.append(work)
        starts = lane[0] is work and self._next_lane() is work.lane and self._fits(work)
        waiting = sum(map(len, self._lanes.values()))
        if not starts and waiting > limits.waiting_of(work.lane):
            lane.remove(work)
            raise EngineFull(f"{waiting - 1} requests are waiting already; try again later")

    def start(self) -> list[Work]:
        """Forgets what has ended and gives out free slots; returns the requests that got one."""
        self._running = [work for work in self._running if work.phase is not Phase.ENDED]
        for queue in Lane:
            self._lanes[queue] = deque(work for work in self._lanes[queue] if work.phase is not Phase.ENDED)
        started: list[Work] = []
        while (lane := self._next_lane()) is not None and self._fits(self._lanes[lane][0]):
            work = self._lanes[lane].popleft()
            self._turns = 0 if lane is Lane.BATCH else self._turns + 1
            self._running.append(work)
            started.append(work)
        return started

    def round(self) -> list[Work]:
        """The requests that make their next step now; nothing when none is ready for one."""
        stepping = [work for work in self._running if work.phase is Phase.STEPPING]
        hurrying = [] if self._hurried else _hurrying(stepping)
        self._hurried = bool(hurrying)
        if hurrying:
            return hurrying
        interactive = [work for work in stepping if work.lane is Lane.INTERACTIVE]
        if not interactive or len(interactive) == len(stepping):
            return stepping
        self._rounds += 1
        return interactive if self._rounds % self._limits.share else stepping

    def _next_lane(self) -> Lane | None:
        """The lane whose turn it is, among those that wait and may have a slot."""
        if len(self._running) >= self._limits.slots:
            return None
        lanes = [lane for lane in Lane if self._lanes[lane] and self._held(lane) < self._limits.slots_of(lane)]
        if len(lanes) == len(Lane):
            return Lane.BATCH if self._turns >= self._limits.share else Lane.INTERACTIVE
        return next(iter(lanes), None)

    def _held(self, lane: Lane) -> int:
        return sum(work.lane is lane for work in self._running)

    def _fits(self, work: Work) -> bool:
        """Whether the memory suffices; what does not fit yet keeps its turn, so that large requests come to theirs."""
        return not self._limits.memory or self.memory_promised + work.memory <= self._limits.memory


def _hurrying(stepping: list[Work]) -> list[Work]:
    """The short requests of people, when they are few."""
    longest = max((work.drawing.steps for work in stepping), default=0)
    short = [work for work in stepping if work.lane is Lane.INTERACTIVE and SHORT * work.drawing.steps <= longest]
    few = FEW * _rows(short) <= _rows(stepping)
    return short if few else []


def _rows(works: list[Work]) -> int:
    return sum(work.drawing.rows for work in works)
