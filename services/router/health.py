"""How providers did lately, and whether they would take our orders: values, and the port they come through."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class RouteHealth:
    """One provider and model over the last 15 minutes at most.

    breaker: CLOSED OPEN HALF_OPEN. retry_time: when an open breaker lets a probe through, microseconds since 1970 UTC.
    p50_s, p95_s: of successful calls, None without any. error_rate: failed calls among all, 0 to 1.
    """

    breaker: str = CLOSED
    retry_time: int | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    error_rate: float = 0.0
    calls: int = 0


Health = Mapping[tuple[str, str], RouteHealth]
"""By provider id and catalog model id; a pair that nobody called lately is not there."""


class CheckOutcome(enum.StrEnum):
    """How an account's check went."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    NOT_OFFERED = "NOT_OFFERED"


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """One account's check; `told` is for people."""

    account: str
    outcome: CheckOutcome
    told: str
    seconds: float


class ProviderHealth(Protocol):
    """Where health is read."""

    async def snapshot(self) -> Health:
        """Everything known now; never fails for want of data."""


class NoHealth:
    """Knows nothing."""

    async def snapshot(self) -> Health:
        """Empty."""
        return {}
