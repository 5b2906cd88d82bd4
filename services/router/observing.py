"""How providers did lately: what the attempts of all workers tell, and what their breakers say."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError
from imagemesh.events.v1 import breaker_pb2
from imagemesh.router.v1 import catalog_pb2

from services.router import wire
from services.router.breaker import BreakerState
from services.router.catalog import Catalog
from services.router.health import Health, ProviderHealth, RouteHealth

FORGET_US = 15 * 60 * 1_000_000
"""How long an opened breaker that nobody spoke of again is still shown as half open."""

Place = tuple[str, str]
"""A provider and a model of the catalog, by their ids; breakers go by them too."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A breaker that a worker opened. until: when it lets a probe through, microseconds since 1970 UTC."""

    until: int

    def shown(self, health: RouteHealth, now: int) -> RouteHealth:
        """The health of its route with the breaker as it stands now."""
        state = BreakerState.OPEN if now < self.until else BreakerState.HALF_OPEN
        return replace(health, breaker=state.value, retry_time=self.until)


class Observations:
    """A `ProviderHealth`: that of the attempts, with the state of the breakers as the workers' signals tell it."""

    def __init__(self, attempts: ProviderHealth, catalog: Catalog, now_s: Callable[[], float] = time.time) -> None:
        self._attempts = attempts
        self._known = frozenset((route.provider, model.id) for model, route in catalog.routes())
        self._now_s = now_s
        self._opened: dict[Place, Opened] = {}

    async def snapshot(self) -> Health:
        """What is known now, breakers included."""
        merged = dict(await self._attempts.snapshot())
        now = round(self._now_s() * 1_000_000)
        for route, opened in list(self._opened.items()):
            if now > opened.until + FORGET_US:
                del self._opened[route]
            else:
                merged[route] = opened.shown(merged.get(route, RouteHealth()), now)
        return merged

    async def heard(self, _subject: str, payload: bytes) -> None:
        """A worker's breaker changed: the callback of the `breaker.*` signals."""
        try:
            message = breaker_pb2.BreakerChanged.FromString(payload)
        except DecodeError:
            return
        place = (message.provider, message.model)
        if message.state == catalog_pb2.BREAKER_STATE_OPEN and place in self._known:
            self._opened[place] = Opened(wire.time_from_proto(message.retry_time))
        else:
            self._opened.pop(place, None)
