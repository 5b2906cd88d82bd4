"""Stop asking a service outside that keeps failing, and find out gently when it is back.

Five failures in a row open it for two seconds, which double up to a minute with each failed probe; then one call at a
time finds out. Not thread-safe: it belongs to one event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FAILURES = 5
COOLDOWN, LONGEST = 2.0, 60.0  # seconds


@dataclass(frozen=True)
class Entry:
    """A call's way through. probe: whether it finds out if the service is back."""

    probe: bool


class Breaker:
    """One for each service. Each `enter` that let a call through is followed by one `leave`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def wait(self) -> float:
        """Seconds until a call may be let through; 0 when one may be now."""
        remaining = self._open_until - self._clock()
        return remaining if remaining > 0 else COOLDOWN if self._probing else 0.0

    @property
    def is_open(self) -> bool:
        """True from the last of too many failures until a call succeeds."""
        return self._failures >= FAILURES

    def enter(self) -> Entry | None:
        """Takes part in a call; None when it must not be made."""
        if self.wait > 0:
            return None
        self._probing = self.is_open
        return Entry(self._probing)

    def leave(self, entry: Entry, healthy: bool | None) -> None:
        """How the call went; None when it says nothing about the service."""
        if entry.probe:
            self._probing = False
        elif self.is_open:
            return  # it was under way when others opened it; a probe decides
        if healthy:
            self._failures = 0
        elif healthy is False:
            self._failures += 1
            if self.is_open:
                pause = COOLDOWN * 2.0 ** min(self._failures - FAILURES, 10)
                self._open_until = self._clock() + min(pause, LONGEST)
