"""Health of the providers as the attempts of all workers tell it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

import sqlalchemy as sa

from mesh import telemetry
from mesh.db import Database
from mesh.errors import Unavailable
from mesh.ids import new_id
from services.router.health import Health, RouteHealth
from services.router.jobs import AttemptState
from services.router.tables import attempts

WINDOW_S = 900
MOST_ATTEMPTS = 20_000
REFRESH_S = 5.0
NOT_THE_PROVIDERS_FAULT = ("PROVIDER_REFUSED", "PROVIDER_BAD_REQUEST")

CALLED_OFF = "CANCELED"
"""Reason of an attempt that nobody waited for any longer."""

Outcome = tuple[str, str, bool | None, float]
"""One ended attempt: provider, model, whether it succeeded (None: it was called off), seconds until it ended."""

log = telemetry.logger(__name__)


class HealthStore:
    """`ProviderHealth` and `planning.Observed` over the table of attempts, read again every few seconds at most.

    `watch` keeps it fresh for `p50_s`, which cannot wait for a read.
    """

    def __init__(self, database: Database, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._database = database
        self._clock_ms = clock_ms
        self._read_at = 0
        self._health: Health = {}

    async def snapshot(self) -> Health:
        """By provider and model; at most `REFRESH_S` old. What was last known while the database does not answer."""
        now = self._clock_ms()
        if now - self._read_at >= REFRESH_S * 1000:
            since = oldest_id(now - WINDOW_S * 1000)
            try:
                self._health = summary(await self._database.read(lambda connection: outcomes(connection, since)))
            except (Unavailable, sa.exc.SQLAlchemyError) as error:
                log.warning("provider health is not read now", error=type(error).__name__)
                return self._health
            self._read_at = now
        return self._health

    def p50_s(self, provider: str, model: str) -> float | None:
        """Median seconds of recent successful calls, as of the last snapshot."""
        health = self._health.get((provider, model))
        return None if health is None else health.p50_s

    def p95_s(self, provider: str, model: str) -> float | None:
        """Seconds that 95 of 100 recent successful calls did not exceed, as of the last snapshot."""
        health = self._health.get((provider, model))
        return None if health is None else health.p95_s

    async def watch(self) -> None:
        """Takes snapshots for ever."""
        while True:
            await self.snapshot()
            await asyncio.sleep(REFRESH_S)


def oldest_id(time_ms: int) -> str:
    """Attempt ids begin with their time, so every attempt since then has a higher id than this."""
    return new_id("att", clock_ms=lambda: max(time_ms, 0), randomness=bytes)


def outcomes(connection: sa.Connection, since: str) -> list[Outcome]:
    """Ended attempts with an id above `since` that say something about their provider, the newest ones."""
    succeeded = attempts.c.state == AttemptState.SUCCEEDED.value
    called_off = sa.or_(attempts.c.state == AttemptState.CANCELED.value, attempts.c.error_reason == CALLED_OFF)
    query = (
        sa.select(
            attempts.c.provider,
            attempts.c.model,
            sa.case((called_off, None), (succeeded, 1), else_=0),
            attempts.c.end_time - attempts.c.start_time,
        )
        .where(attempts.c.attempt_id >= since, attempts.c.end_time.is_not(None))
        .where(attempts.c.error_reason.not_in(NOT_THE_PROVIDERS_FAULT))
        .order_by(attempts.c.attempt_id.desc())
        .limit(MOST_ATTEMPTS)
    )
    rows = connection.execute(query)
    return [(row[0], row[1], None if row[2] is None else bool(row[2]), row[3] / 1e6) for row in rows]


def summary(ended: Iterable[Outcome]) -> Health:
    """Percentiles and error rate for each provider and model that ended a call by itself."""
    ordered = sorted(ended, key=lambda outcome: outcome[:2])
    groups = {pair: list(group) for pair, group in groupby(ordered, key=lambda outcome: outcome[:2])}
    return {
        pair: _route_health(group)
        for pair, group in groups.items()
        if any(succeeded is not None for _, _, succeeded, _ in group)
    }


def _route_health(ended: Sequence[Outcome]) -> RouteHealth:
    times = sorted(seconds for _, _, succeeded, seconds in ended if succeeded)
    calls = sum(succeeded is not None for _, _, succeeded, _ in ended)
    return RouteHealth(
        p50_s=percentile(times, 50),
        p95_s=percentile(_with_late(times, ended), 95),
        error_rate=1 - len(times) / calls,
        calls=calls,
    )


def _with_late(times: Sequence[float], ended: Sequence[Outcome]) -> Sequence[float]:
    """The times, and those of calls that were called off for being late: without them each hedged call would make the
    next one seem late sooner."""
    usual = percentile(times, 95)
    if usual is None:
        return times
    return sorted([*times, *(seconds for _, _, succeeded, seconds in ended if succeeded is None and seconds > usual)])


def percentile(ordered: Sequence[float], share: int) -> float | None:
    """The smallest value that at least `share` percent of the ordered values do not exceed; None of none."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)] if ordered else None
