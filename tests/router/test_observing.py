"""Health of providers as attempts and breakers show it."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import breaker_pb2
from imagemesh.router.v1 import catalog_pb2

from mesh.errors import Internal
from services.router.attempt_store import AttemptEnd
from services.router.catalog_file import load_catalog
from services.router.observing import Call, Observations, quantile, summed
from tests.router.api import CATALOG
from tests.router.stores import Stores, new_attempt


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([1], 0.95, 1), ([1, 2, 3, 4], 0.5, 2), ([1, 2, 3], 0.5, 2), (list(range(1, 101)), 0.95, 95)],
)
def test_quantiles(values: list[float], share: float, expected: float | None) -> None:
    assert quantile(values, share) == expected


def test_a_refusal_is_no_failure_of_the_provider() -> None:
    health = summed([Call(True, False, 2.0), Call(False, True, 1.0), Call(False, False, 1.0), Call(True, False, 4.0)])
    assert (health.calls, health.error_rate, health.p50_s, health.p95_s) == (4, 0.25, 2.0, 4.0)


async def test_attempts_of_all_workers_and_breakers_make_the_health(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    clock = [1000.0]
    observed = Observations(stores.database, load_catalog(tmp_path / "catalog.yaml", {}), lambda: clock[0])
    assert await observed.snapshot() == {}
    job = await stores.take()
    for end in (AttemptEnd("SUCCEEDED"), AttemptEnd("FAILED", failure=Internal("x", reason="PROVIDER_OVERLOADED"))):
        attempt = new_attempt(provider="own", model="demo")
        await stores.attempts.begin(job.lease, attempt)
        await stores.attempts.finish(job.lease, attempt.attempt_id, end)
    assert await observed.snapshot() == {}
    clock[0] += 11
    health = (await observed.snapshot())["own", "demo"]
    assert (health.calls, health.error_rate, health.breaker) == (2, 0.5, "CLOSED")
    assert observed.p50_s("own", "demo") == health.p50_s
    opened = breaker_pb2.BreakerChanged(
        provider="shop", model="dear-1", state=catalog_pb2.BREAKER_STATE_OPEN, retry_time=Timestamp(seconds=1030)
    )
    await observed.heard("breaker.shop", opened.SerializeToString())
    shown = (await observed.snapshot())["shop", "dear"]
    assert (shown.breaker, shown.retry_time) == ("OPEN", 1_030_000_000)
    clock[0] = 1031
    assert ("shop", "dear") not in await observed.snapshot()
