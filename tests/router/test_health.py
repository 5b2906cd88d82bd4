from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from mesh.errors import Aborted
from mesh.ids import new_id
from services.router.attempt_store import AttemptEnd
from services.router.health_store import HealthStore, oldest_id, percentile, summary
from services.router.jobs import AttemptState
from tests.router.stores import Stores, new_attempt


@pytest.mark.parametrize(
    ("times", "share", "value"),
    [
        ([], 50, None),
        ([3.0], 50, 3.0),
        ([3.0], 95, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 95, 4.0),
    ],
)
def test_percentiles(times: list[float], share: int, value: float | None) -> None:
    assert percentile(times, share) == value


def test_each_provider_and_model_is_summed_up_alone() -> None:
    health = summary([("a", "m", True, 2.0), ("a", "m", False, 9.0), ("b", "m", True, 1.0), ("a", "m", True, 4.0)])
    assert (health["a", "m"].p50_s, health["a", "m"].p95_s, health["a", "m"].calls) == (2.0, 4.0, 3)
    assert health["a", "m"].error_rate == pytest.approx(1 / 3)
    assert (health["b", "m"].error_rate, health["b", "m"].calls) == (0.0, 1)


def test_hedging_does_not_make_a_provider_seem_ever_faster_or_faulty() -> None:
    quick = [("a", "m", True, float(second)) for second in range(1, 96)]
    called_off = [("a", "m", None, 95.5)] * 5  # the five of a hundred that a second one was faster than
    health = summary([*quick, *called_off])["a", "m"]
    assert (health.p95_s, health.error_rate, health.calls) == (95.0, 0.0, 95)
    canceled = summary([("a", "m", True, 4.0), ("a", "m", None, 0.1)])["a", "m"]
    assert (canceled.p50_s, canceled.p95_s) == (4.0, 4.0)  # a caller's cancel says nothing of how long it takes
    assert summary([("a", "m", None, 9.0)]) == {}


@pytest.mark.parametrize("state", ["CANCELED", "UNKNOWN"])
async def test_what_was_called_off_is_no_failure(stores: Stores, state: str) -> None:
    job = await stores.take()
    for end in (
        AttemptEnd("SUCCEEDED"),
        AttemptEnd(state, failure=Aborted("called off", reason="CANCELED")),
    ):
        attempt = new_attempt()
        await stores.attempts.begin(job.lease, attempt)
        await stores.attempts.finish(job.lease, attempt.attempt_id, end)
    (health,) = (await HealthStore(stores.database).snapshot()).values()
    assert (health.calls, health.error_rate) == (1, 0.0)


async def test_a_fault_of_the_database_leaves_what_was_known(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_work: object) -> None:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(stores.database, "read", broken)
    assert await HealthStore(stores.database).snapshot() == {}


def test_ids_since_a_time_are_higher_than_its_oldest_id() -> None:
    made = new_id("att", clock_ms=lambda: 1_000_000)
    assert oldest_id(999_999) < oldest_id(1_000_000) <= made < oldest_id(1_000_001)


async def test_health_is_what_the_attempts_tell(stores: Stores) -> None:
    job = await stores.take()
    ends = [
        AttemptEnd(AttemptState.SUCCEEDED),
        AttemptEnd(AttemptState.FAILED),
        AttemptEnd(AttemptState.CANCELED),
        None,
    ]
    for end in ends:
        attempt = new_attempt(provider="acme", model="painter")
        await stores.attempts.begin(job.lease, attempt)
        if end is not None:
            await stores.attempts.finish(job.lease, attempt.attempt_id, end)
    store = HealthStore(stores.database)
    assert store.p50_s("acme", "painter") is None
    (health,) = (await store.snapshot()).values()
    assert (health.calls, health.error_rate) == (2, 0.5)
    assert health.p50_s == store.p50_s("acme", "painter")
    assert health.p50_s is not None
    assert 0 <= health.p50_s < 60


async def test_old_attempts_do_not_count(stores: Stores) -> None:
    job = await stores.take()
    attempt = new_attempt(attempt_id=new_id("att", clock_ms=lambda: 1_000))
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd(AttemptState.SUCCEEDED))
    assert await HealthStore(stores.database).snapshot() == {}
