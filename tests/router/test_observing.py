"""What the workers' breakers say, beside what the attempts tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import breaker_pb2
from imagemesh.router.v1 import catalog_pb2

from services.router.catalog_file import load_catalog
from services.router.health import Health, RouteHealth
from services.router.observing import FORGET_US, Observations
from tests.router.api import CATALOG

SEEN = RouteHealth(p50_s=1.5, p95_s=3.0, error_rate=0.5, calls=4)


class SeenAttempts:
    async def snapshot(self) -> Health:
        return {("own", "demo"): SEEN}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observed(tmp_path: Path, clock: Clock) -> Observations:
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return Observations(SeenAttempts(), load_catalog(tmp_path / "catalog.yaml", {}), clock)


def changed(state: catalog_pb2.BreakerState.ValueType, provider: str = "shop", model: str = "dear") -> bytes:
    message = breaker_pb2.BreakerChanged(
        provider=provider, model=model, state=state, retry_time=Timestamp(seconds=1030)
    )
    return message.SerializeToString()


async def test_without_signals_health_is_that_of_the_attempts(observed: Observations) -> None:
    assert await observed.snapshot() == {("own", "demo"): SEEN}


async def test_an_open_breaker_is_shown_until_it_closes(observed: Observations, clock: Clock) -> None:
    await observed.heard("breaker.shop", changed(catalog_pb2.BREAKER_STATE_OPEN))
    shown = (await observed.snapshot())["shop", "dear"]
    assert (shown.breaker, shown.retry_time, shown.calls) == ("OPEN", 1_030_000_000, 0)
    clock.now = 1031
    assert (await observed.snapshot())["shop", "dear"].breaker == "HALF_OPEN"
    await observed.heard("breaker.shop", changed(catalog_pb2.BREAKER_STATE_CLOSED))
    assert ("shop", "dear") not in await observed.snapshot()


async def test_what_the_attempts_tell_stays_beside_the_breaker(observed: Observations) -> None:
    await observed.heard("breaker.own", changed(catalog_pb2.BREAKER_STATE_OPEN, "own", "demo"))
    shown = (await observed.snapshot())["own", "demo"]
    assert (shown.breaker, shown.calls, shown.p50_s) == ("OPEN", 4, 1.5)


async def test_a_breaker_whose_end_nobody_told_is_forgotten(observed: Observations, clock: Clock) -> None:
    await observed.heard("breaker.shop", changed(catalog_pb2.BREAKER_STATE_OPEN))
    clock.now = 1030 + FORGET_US / 1e6 + 1
    assert ("shop", "dear") not in await observed.snapshot()


@pytest.mark.parametrize(
    "payload", [b"\xff\xff", changed(catalog_pb2.BREAKER_STATE_OPEN, "nobody", "nothing")], ids=["garbage", "unknown"]
)
async def test_signals_that_say_nothing_are_passed_over(observed: Observations, payload: bytes) -> None:
    await observed.heard("breaker.x", payload)
    assert await observed.snapshot() == {("own", "demo"): SEEN}
