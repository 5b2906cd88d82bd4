"""The ledger: what is reserved, debited, released and held; never more than the cap, never twice."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ResourceExhausted
from services.router import ledger
from services.router.attempt_store import AttemptEnd
from services.router.leases import Ending
from services.router.ledger_store import EntryFilter, UsageRange
from services.router.tables import attempts as attempts_table
from services.router.tables import ledger_entries
from tests.router.stores import KEY, Stores, new_attempt

DAY = ledger.DAY_US


@given(st.integers(0, 10**12), st.integers(-10, 10**12))
def test_a_settlement_splits_the_reservation(reserved: int, cost: int) -> None:
    settlement = ledger.settle(reserved, cost)
    assert settlement.debit + settlement.release == reserved
    assert 0 <= settlement.debit <= max(0, min(reserved, cost))


async def test_a_job_reserves_and_its_end_settles(stores: Stores) -> None:
    await stores.budget(cap=1000)
    job = await stores.take(quote=300)
    assert await stores.kinds() == [("RESERVATION", 300)]
    ending = Ending("SUCCEEDED", images=b"", cost_micros=120, image_count=2, provider="openai", model="gpt-image-1")
    ended = await stores.queue.finish(job.lease, ending)
    assert ended.debit_micros == 120
    assert await stores.kinds() == [("RESERVATION", 300), ("RELEASE", 180), ("DEBIT", 120)]
    balance = await stores.ledger.balance(KEY)
    assert balance == ledger.Balance(cap=1000, reserved=0, spent=120, held=0)


async def test_the_debit_never_exceeds_the_reservation(stores: Stores) -> None:
    await stores.budget(cap=None)
    job = await stores.take(quote=100)
    ended = await stores.queue.finish(job.lease, Ending("SUCCEEDED", cost_micros=5000))
    assert ended.debit_micros == 100


@pytest.mark.parametrize("state", ["FAILED", "BLOCKED", "CANCELED"])
async def test_a_job_without_pictures_costs_nothing(stores: Stores, state: str) -> None:
    await stores.budget(cap=None)
    job = await stores.take(quote=100)
    await stores.queue.finish(job.lease, Ending(state, cost_micros=50))
    assert await stores.kinds() == [("RESERVATION", 100), ("RELEASE", 100)]
    assert await stores.open_reservations() == (0, 0)


async def test_a_free_job_still_has_its_one_debit(stores: Stores) -> None:
    job = await stores.take(quote=0)
    await stores.queue.finish(job.lease, Ending("SUCCEEDED", image_count=1, cache_hit=True))
    assert await stores.kinds() == [("DEBIT", 0)]


async def test_parallel_reservations_never_pass_the_cap(stores: Stores) -> None:
    await stores.budget(cap=1000)
    results = await asyncio.gather(*(stores.submit(quote=150) for _ in range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, ResourceExhausted)]
    assert len(refused) == 14
    assert {error.reason for error in refused} == {"BUDGET_EXCEEDED"}
    assert await stores.open_reservations() == (900, 900)
    assert await stores.jobs.unfinished("acme") == 6  # what was refused left nothing behind


async def test_a_hold_counts_against_the_cap_on_its_own(stores: Stores) -> None:
    await stores.budget(cap=1000)
    job = await stores.take(quote=300)
    attempt = new_attempt(worst_micros=600)
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN"))
    balance = await stores.ledger.balance(KEY)
    assert balance == ledger.Balance(cap=1000, reserved=300, held=600)
    assert balance.remaining == 100
    with pytest.raises(ResourceExhausted):
        await stores.submit(quote=101)
    await stores.queue.finish(job.lease, Ending("FAILED"))
    balance = await stores.ledger.balance(KEY)
    assert balance == ledger.Balance(cap=1000, reserved=0, held=600)


async def test_old_holds_become_the_meshs_own_cost(stores: Stores) -> None:
    await stores.budget(cap=1000)
    job = await stores.take(quote=300)
    attempts = [new_attempt(worst_micros=10), new_attempt(worst_micros=20)]
    for attempt in attempts:
        await stores.attempts.begin(job.lease, attempt)
        await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN"))
    aged = sa.update(ledger_entries).where(ledger_entries.c.attempt_id == attempts[0].attempt_id)
    older = {"create_time": ledger_entries.c.create_time - 8 * DAY}
    await stores.database.write(lambda c: c.execute(aged.values(older)).rowcount)
    assert [await stores.ledger.expire_holds(), await stores.ledger.expire_holds()] == [1, 0]
    balance = await stores.ledger.balance(KEY)
    assert balance is not None
    assert balance.held == 20
    costs = {row.attempt_id: row.cost_micros for row in await stores.rows(attempts_table)}
    assert [costs[attempt.attempt_id] for attempt in attempts] == [10, 0]


async def test_the_database_refuses_a_second_debit(stores: Stores) -> None:
    job = await stores.take()
    await stores.queue.finish(job.lease, Ending("SUCCEEDED"))
    (debit,) = await stores.rows(ledger_entries)
    again = dict(debit._mapping) | {"entry_id": "led_other"}
    with pytest.raises(sa.exc.IntegrityError):
        await stores.database.write(lambda c: c.execute(sa.insert(ledger_entries), again).rowcount)


async def test_entries_list_newest_first_and_usage_adds_up(stores: Stores) -> None:
    await stores.budget(cap=None)
    for provider, images, cost in (("a", 1, 10), ("a", 2, 20), ("b", 3, 30)):
        job = await stores.take(quote=100)
        ending = Ending("SUCCEEDED", cost_micros=cost, image_count=images, provider=provider, model="m")
        await stores.queue.finish(job.lease, ending)
    wanted = EntryFilter("acme", kind="DEBIT")
    page = await stores.ledger.entries(wanted, "", 2)
    rest = await stores.ledger.entries(wanted, page[-1].entry_id, 10)
    assert [entry.amount_micros for entry in (*page, *rest)] == [30, 20, 10]
    assert await stores.ledger.entries(EntryFilter("other"), "", 10) == []
    whole = UsageRange("acme", 0, 10**6)
    assert [
        (row.group, row.jobs, row.images, row.micros) for row in await stores.ledger.usage(whole, ["provider"])
    ] == [
        (("a",), 2, 3, 30),
        (("b",), 1, 3, 30),
    ]
    (total,) = await stores.ledger.usage(whole, [])
    assert (total.jobs, total.images, total.micros) == (3, 6, 60)
