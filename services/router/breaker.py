"""Circuit breaker: stop asking a provider's model that keeps failing, and find out gently when it is back.

CLOSED asks freely and counts failures in a row. OPEN asks nobody until a cool-down has passed, which doubles with each
reopening. HALF_OPEN lets a bounded number of probes through; one success closes, one failure reopens. A peer's signal
opens this worker's breaker for a stated time, without growing its own cool-down.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Clock = Callable[[], float]

FAILURES = "failures in a row"
MOST = 4_096
"""Breakers of one worker."""
RECOVERED = "a probe succeeded"


class BreakerState(enum.StrEnum):
    """Where a breaker stands."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True)
class BreakerConfig:
    """When a breaker opens, and for how long."""

    failures: int = 5
    """Failures in a row that open it."""
    cooldown: float = 2.0
    """Seconds it stays open the first time; doubles with each reopening."""
    longest: float = 60.0
    """The most seconds it stays open."""
    probes: int = 2
    """Calls in flight at most while half open."""


@dataclass(frozen=True)
class BreakerKey:
    """What a breaker guards."""

    provider: str
    model: str


@dataclass(frozen=True)
class Entry:
    """A call's way through a breaker."""

    probe: bool
    """Whether the call finds out if a half-open breaker may close."""


class Breaker:
    """One breaker. Not thread-safe: it belongs to one event loop."""

    def __init__(self, config: BreakerConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._failures = 0
        self._reopened = 0
        self._open_until: float | None = None
        self._probes = 0

    @property
    def state(self) -> BreakerState:
        """Where it stands now."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._open_until else BreakerState.HALF_OPEN

    @property
    def idle(self) -> bool:
        """Whether forgetting it changes nothing but a count of failures: closed, and no probe under way."""
        return self._open_until is None and self._probes == 0

    @property
    def wait(self) -> float:
        """Seconds until a call may be let through; 0 when one may be now."""
        if self._open_until is None:
            return 0.0
        remaining = self._open_until - self._clock()
        if remaining > 0:
            return remaining
        return self._config.cooldown if self._probes >= self._config.probes else 0.0

    def enter(self) -> Entry | None:
        """Take part in a call; None when it must not be made. Each entry is followed by exactly one `leave`."""
        if self.wait > 0:
            return None
        probe = self.state is BreakerState.HALF_OPEN
        self._probes += probe
        return Entry(probe)

    def leave(self, entry: Entry, healthy: bool | None) -> None:
        """Tell how the call went; None when it says nothing of the provider's health (canceled, refused, 429)."""
        self._probes -= entry.probe
        if healthy is True:
            self._succeed(entry)
        elif healthy is False:
            self._fail(entry)

    def open_for(self, seconds: float) -> None:
        """Stay open for at least this long: somebody saw what this worker's failures in a row do not show."""
        until = self._clock() + min(seconds, self._config.longest)
        self._open_until = max(self._open_until or 0.0, until)

    def _succeed(self, entry: Entry) -> None:
        if self._open_until is None or (entry.probe and self.state is BreakerState.HALF_OPEN):
            self._failures = self._reopened = 0
            self._open_until = None
        # else: an old call succeeded after newer ones opened it; a probe will decide

    def _fail(self, entry: Entry) -> None:
        self._failures += 1
        if entry.probe or (self._open_until is None and self._failures >= self._config.failures):
            pause = min(self._config.cooldown * 2.0**self._reopened, self._config.longest)
            self._reopened = min(self._reopened + 1, 16)
            self._open_until = self._clock() + pause


class Breakers:
    """All breakers of a worker, made as they are needed."""

    def __init__(
        self,
        config: BreakerConfig,
        clock: Clock,
        on_change: Callable[[BreakerKey, BreakerState, float, str], None] | None = None,
    ) -> None:
        """`on_change(key, state, seconds, reason)` is called when this worker opens or closes a breaker."""
        self._config = config
        self._clock = clock
        self._on_change = on_change
        self._breakers: dict[BreakerKey, Breaker] = {}
        self._kept_off: dict[BreakerKey, float] = {}

    def wait(self, key: BreakerKey) -> float:
        """Seconds until `key` may be called; 0 = now."""
        breaker = self._breakers.get(key)
        kept_off = self._kept_off.get(key, 0.0) - self._clock()
        return max(breaker.wait if breaker else 0.0, kept_off, 0.0)

    def enter(self, key: BreakerKey) -> Entry | None:
        """See `Breaker.enter`; None also while the provider asked us to stay away."""
        return self._of(key).enter() if self.wait(key) == 0 else None

    def keep_off(self, key: BreakerKey, seconds: float) -> None:
        """The provider asked us to slow down: nobody calls for a while, and its health is not touched."""
        self._kept_off[key] = max(self._kept_off.get(key, 0.0), self._clock() + seconds)

    def leave(self, key: BreakerKey, entry: Entry, healthy: bool | None) -> None:
        """See `Breaker.leave`."""
        breaker = self._of(key)
        before = breaker.state
        breaker.leave(entry, healthy)
        after = breaker.state
        if self._on_change and after != before and after is not BreakerState.HALF_OPEN:
            self._on_change(key, after, breaker.wait, FAILURES if after is BreakerState.OPEN else RECOVERED)

    def trip(self, key: BreakerKey, seconds: float, reason: str) -> None:
        """Opens a breaker for a cause other than failures in a row."""
        breaker = self._of(key)
        breaker.open_for(seconds)
        if self._on_change:
            self._on_change(key, BreakerState.OPEN, breaker.wait, reason)

    def peer_opened(self, key: BreakerKey, seconds: float) -> None:
        """A peer's breaker opened."""
        self._of(key).open_for(seconds)

    def states(self) -> Mapping[BreakerKey, BreakerState]:
        """Every breaker that was ever used."""
        return {key: breaker.state for key, breaker in self._breakers.items()}

    def _of(self, key: BreakerKey) -> Breaker:
        if key not in self._breakers and len(self._breakers) >= MOST:
            self._forget()
        return self._breakers.setdefault(key, Breaker(self._config, self._clock))

    def _forget(self) -> None:
        """Makes room: closed ones go; if all are open, the oldest. (Callers name models that are passed through.)"""
        now = self._clock()
        self._kept_off = {key: until for key, until in self._kept_off.items() if until > now}
        idle = [key for key, breaker in self._breakers.items() if breaker.idle]
        for key in idle or [next(iter(self._breakers))]:
            del self._breakers[key]
