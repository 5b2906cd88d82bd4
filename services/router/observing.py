"""How providers did lately: read from the attempts of every worker, and from what their breakers say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from google.protobuf.message import DecodeError
from imagemesh.events.v1 import breaker_pb2
from imagemesh.router.v1 import catalog_pb2

from mesh.db import Database, now_us
from services.router import wire
from services.router.catalog import Catalog
from services.router.health import CLOSED, Health, RouteHealth
from services.router.tables import attempts

WINDOW_US = 15 * 60 * 1_000_000
MOST_ATTEMPTS = 5_000
FRESH_S = 10.0

Route = tuple[str, str]
"""Provider id and catalog model id."""

_RECENT = (
    sa.select(
        attempts.c.provider,
        attempts.c.model,
        attempts.c.state,
        attempts.c.error_reason,
        (attempts.c.end_time - attempts.c.start_time).label("took_us"),
    )
    .where(attempts.c.start_time > now_us() - WINDOW_US, attempts.c.state.in_(("SUCCEEDED", "FAILED", "UNKNOWN")))
    .order_by(attempts.c.start_time.desc())
    .limit(MOST_ATTEMPTS)
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that ended. refused: the provider's filter said no, which is no fault of its health."""

    ok: bool
    refused: bool
    seconds: float


class Observations:
    """Health of each route, at most ten seconds old. It is a `ProviderHealth`, and a planner's `Observed`."""

    def __init__(self, database: Database, catalog: Catalog, now_s: Callable[[], float] = time.time) -> None:
        self._database = database
        self._routes = _catalog_models(catalog)
        self._now_s = now_s
        self._calls: Health = {}
        self._read_at = float("-inf")
        self._open: dict[Route, int] = {}

    async def snapshot(self) -> Health:
        """What is known now, breakers included."""
        if self._now_s() - self._read_at > FRESH_S:
            await self.refresh()
        merged = dict(self._calls)
        now = round(self._now_s() * 1_000_000)
        for route, until in self._open.items():
            if until > now:
                merged[route] = replace(merged.get(route, RouteHealth()), breaker="OPEN", retry_time=until)
        return merged

    async def refresh(self) -> None:
        """Reads the attempts of the last 15 minutes."""
        rows = await self._database.read(lambda connection: connection.execute(_RECENT).all())
        calls: dict[Route, list[Call]] = {}
        for row in rows:
            call = Call(row.state == "SUCCEEDED", row.error_reason == "PROVIDER_REFUSED", (row.took_us or 0) / 1e6)
            calls.setdefault((row.provider, row.model), []).append(call)
        self._calls = {route: summed(of_route) for route, of_route in calls.items()}
        self._read_at = self._now_s()

    def p50_s(self, provider: str, model: str) -> float | None:
        """Median seconds of recent successful calls; None without any."""
        known = self._calls.get((provider, model))
        return None if known is None else known.p50_s

    async def heard(self, _subject: str, payload: bytes) -> None:
        """A worker's breaker changed: the callback of the `breaker.*` signals."""
        try:
            message = breaker_pb2.BreakerChanged.FromString(payload)
        except DecodeError:
            return
        is_open = message.state == catalog_pb2.BREAKER_STATE_OPEN
        for model in self._routes.get((message.provider, message.model), ()):
            if is_open:
                self._open[message.provider, model] = wire.time_from_proto(message.retry_time)
            else:
                self._open.pop((message.provider, model), None)


def summed(calls: Sequence[Call]) -> RouteHealth:
    """The calls of one route as its health."""
    times = sorted(call.seconds for call in calls if call.ok)
    failed = sum(not call.ok and not call.refused for call in calls)
    return RouteHealth(
        breaker=CLOSED,
        p50_s=quantile(times, 0.5),
        p95_s=quantile(times, 0.95),
        error_rate=failed / len(calls) if calls else 0.0,
        calls=len(calls),
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of them do not exceed; None of nothing."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None


def _catalog_models(catalog: Catalog) -> Mapping[Route, tuple[str, ...]]:
    """Catalog models by provider and the provider's own name of the model, which is what breakers go by."""
    found: dict[Route, tuple[str, ...]] = {}
    for model, route in catalog.routes():
        for name in {route.provider_model, *route.pins.values()}:
            key = (route.provider, name)
            found[key] = (*found.get(key, ()), model.id)
    return found
