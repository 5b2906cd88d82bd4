"""The queue: claims, fences, turns, parking, the point of no return, lost workers."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from services.router.attempt_store import AttemptEnd
from services.router.leases import Beat, Ending, Lease, LeaseLost, Parking
from services.router.tables import jobs
from tests.router.stores import Stores, new_attempt


async def test_a_claim_leases_each_job_once(stores: Stores) -> None:
    ids = [await stores.submit() for _ in range(20)]
    claims = await asyncio.gather(*(stores.claim(limit=3, owner=f"w{i}") for i in range(10)))
    taken = [job.lease.job_id for claim in claims for job in claim]
    assert sorted(taken) == sorted(ids)


async def test_a_claim_says_who_what_and_when(stores: Stores) -> None:
    job = await stores.take(tenant="acme")
    assert (job.tenant, job.lease.epoch, job.lease.owner, job.version) == ("acme", 1, "w1", 2)
    assert (job.taken_from, job.waiting_for, job.committed, job.cancel_requested) == ("", "", False, False)
    assert job.deadline - job.create_time == 600_000_000
    assert await stores.events() == ["JobQueued", "JobStarted"]


async def test_tenants_take_turns_however_many_jobs_each_has(stores: Stores) -> None:
    for tenant, count in (("big", 6), ("small", 2), ("late", 1)):
        for _ in range(count):
            await stores.submit(tenant=tenant)
    order = [job.tenant for job in await stores.claim(limit=9)]
    assert sorted(order[:5]) == ["big", "big", "late", "small", "small"]
    assert order[5:] == ["big"] * 4


async def test_a_tenant_that_was_away_gets_no_credit(stores: Stores) -> None:
    for _ in range(5):
        await stores.submit(tenant="busy")
    assert len(await stores.claim(limit=5)) == 5
    for _ in range(3):
        await stores.submit(tenant="new")
    for _ in range(3):
        await stores.submit(tenant="busy")
    order = [job.tenant for job in await stores.claim(limit=6)]
    assert sorted(order[:2]) == ["busy", "new"]
    assert sorted(order[2:4]) == ["busy", "new"]


async def test_lanes_are_apart(stores: Stores) -> None:
    await stores.submit(lane="BATCH")
    assert await stores.claim() == []
    assert len(await stores.claim(lane="BATCH")) == 1


async def test_only_an_ended_lease_can_be_taken_and_then_the_old_holder_writes_nothing(stores: Stores) -> None:
    await stores.submit()
    (old,) = await stores.claim(lease_s=-1)
    (new,) = await stores.claim(owner="w2")
    assert (new.lease.epoch, new.taken_from, new.step_losses) == (2, "w1", 1)
    assert await stores.claim(owner="w3") == []
    stale = old.lease
    for write in (
        stores.queue.park(stale, Parking("REVIEW", 1)),
        stores.queue.resume(stale),
        stores.queue.release(stale),
        stores.queue.store_inputs(stale, b""),
        stores.queue.commit_images(stale, b""),
        stores.queue.finish(stale, Ending("SUCCEEDED")),
        stores.attempts.begin(stale, new_attempt()),
        stores.attempts.identify(stale, "att", "r"),
        stores.attempts.finish(stale, "att", AttemptEnd("SUCCEEDED")),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert not await stores.queue.check(stale, 0)
    assert await stores.queue.check(new.lease, 1)
    assert not await stores.queue.check(new.lease, 60)


async def test_a_heartbeat_extends_leases_and_tells_cancels_and_losses(stores: Stores) -> None:
    ids = [await stores.submit() for _ in range(3)]
    held = {job.lease.job_id: job.lease for job in await stores.claim(lease_s=-1)}
    await stores.claim(limit=1, owner="thief")
    (lost,) = [i for i in ids if (await stores.record(i)).version == 2 and await _owner(stores, i) == "thief"]
    kept = next(i for i in ids if i != lost)
    await stores.jobs.cancel("acme", kept)
    pulse = await stores.queue.heartbeat("w1", [Beat(lease, "draw") for lease in held.values()], 30)
    assert (pulse.cancel, pulse.lost) == ({kept}, {lost})
    assert await stores.claim(owner="w2") == []


async def test_a_heartbeat_stores_progress_and_a_new_step_forgives_losses(stores: Stores) -> None:
    job_id = await stores.submit()
    for owner in ("w1", "w2", "w3"):
        (job,) = await stores.claim(owner=owner, lease_s=-1)
    assert job.step_losses == 2
    await stores.queue.heartbeat("w3", [Beat(job.lease, "attempt", (3, 20))], -1)
    (job,) = await stores.claim(owner="w4")
    assert (job.step, job.step_losses) == ("attempt", 1)
    record = await stores.record(job_id)
    assert (record.progress_step, record.progress_steps) == (3, 20)


async def test_five_losses_in_one_step_end_the_job(stores: Stores) -> None:
    await stores.budget(cap=None)
    job_id = await stores.submit(quote=100)
    for number in range(5):
        (job,) = await stores.claim(owner=f"w{number}", lease_s=-1)
    attempt = new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.identify(job.lease, attempt.attempt_id, "vendor-1")
    assert await stores.claim(owner="w6") == []
    record = await stores.record(job_id)
    assert (record.state, record.error_reason, record.cost_micros) == ("FAILED", "WORKER_LOST", 0)
    assert await stores.open_reservations() == (0, 0)
    assert (await stores.events())[-2:] == ["JobFailed", "AttemptFinished"]
    (lost,) = await stores.attempts.list(job_id)
    assert (lost.state, lost.provider_request_id) == ("UNKNOWN", "vendor-1")


async def test_a_committed_job_rests_after_five_losses_and_goes_on(stores: Stores) -> None:
    job_id = await stores.submit()
    (job,) = await stores.claim(lease_s=-1)
    assert await stores.queue.commit_images(job.lease, b"pairs")
    for number in range(4):
        assert await stores.claim(owner=f"w{number}", lease_s=-1)
    assert await stores.claim(owner="w6") == []
    record = await stores.record(job_id)
    assert (record.state, record.waiting_for) == ("RUNNING", "RETRY")
    assert 50 < (await stores.queue.next_wake("INTERACTIVE") or 0) <= 60
    await stores.queue.poke(job_id)
    (again,) = await stores.claim(owner="w7")
    assert (again.committed, again.images, again.step_losses) == (True, b"pairs", 0)


async def test_a_parked_job_is_left_alone_until_it_wakes(stores: Stores) -> None:
    job = await stores.take()
    await stores.queue.park(job.lease, Parking("REVIEW", 60, "00-trace"))
    assert await stores.claim(owner="w2") == []
    record = await stores.record(job.lease.job_id)
    assert (record.state, record.waiting_for, record.version) == ("RUNNING", "REVIEW", 3)
    assert 50 < (await stores.queue.next_wake("INTERACTIVE") or 0) <= 60
    await stores.queue.poke(job.lease.job_id)
    (again,) = await stores.claim(owner="w2")
    assert (again.waiting_for, again.taken_from, again.run_traceparent) == ("REVIEW", "", "00-trace")
    assert again.deadline > job.deadline  # time parked for review does not count
    await stores.queue.resume(again.lease)
    resumed = await stores.record(job.lease.job_id)
    assert (resumed.waiting_for, resumed.version) == ("", 4)


async def test_a_fact_that_comes_before_parking_wakes_at_once(stores: Stores) -> None:
    job = await stores.take()
    await stores.queue.poke(job.lease.job_id)
    await stores.queue.park(job.lease, Parking("PROVIDER", 60))
    assert len(await stores.claim(owner="w2")) == 1


async def test_a_released_job_runs_again_without_a_loss(stores: Stores) -> None:
    job = await stores.take()
    await stores.queue.release(job.lease)
    (again,) = await stores.claim(owner="w2")
    assert (again.lease.epoch, again.step_losses, again.taken_from) == (3, 0, "")


async def test_the_point_of_no_return_and_cancel_exclude_each_other(stores: Stores) -> None:
    first = await stores.take()
    assert await stores.queue.commit_images(first.lease, b"pairs")
    with pytest.raises(Exception, match="cannot be canceled") as refused:
        await stores.jobs.cancel("acme", first.lease.job_id)
    assert refused.value.reason == "NOT_CANCELABLE"  # type: ignore[attr-defined]
    second = await stores.take()
    await stores.jobs.cancel("acme", second.lease.job_id)
    assert not await stores.queue.commit_images(second.lease, b"pairs")
    assert (await stores.record(second.lease.job_id)).images == b""


async def test_a_takeover_after_the_point_of_no_return_finds_exactly_the_pairs(stores: Stores) -> None:
    await stores.submit()
    (job,) = await stores.claim(lease_s=-1)
    assert await stores.queue.commit_images(job.lease, b"\x3a\x00")
    (again,) = await stores.claim(owner="w2")
    assert (again.committed, again.images) == (True, b"\x3a\x00")
    assert await stores.queue.commit_images(again.lease, b"")
    assert (await stores.record(job.lease.job_id)).images == b"\x3a\x00"


async def test_a_takeover_turns_unanswerable_attempts_into_unknown_and_holds_their_cost(stores: Stores) -> None:
    await stores.budget(cap=10_000)
    await stores.submit(quote=1000)
    (job,) = await stores.claim(lease_s=-1)
    lost, known, safe = new_attempt(), new_attempt(), new_attempt(replay_safe=True)
    numbers = [await stores.attempts.begin(job.lease, attempt) for attempt in (lost, known, safe)]
    assert numbers == [1, 2, 3]
    await stores.attempts.identify(job.lease, known.attempt_id, "vendor-1")
    (again,) = await stores.claim(owner="w2")
    assert [attempt.state for attempt in again.attempts] == ["UNKNOWN", "RUNNING", "RUNNING"]
    assert again.attempts[0].error_reason == "ATTEMPT_OUTCOME_UNKNOWN"
    assert again.attempts[1].provider_request_id == "vendor-1"
    balance = await stores.ledger.balance("key_test")
    assert balance is not None
    assert (balance.reserved, balance.held) == (1000, 500)


async def test_attempts_keep_what_they_delivered(stores: Stores) -> None:
    job = await stores.take()
    attempt = new_attempt(indices=(0, 2))
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("SUCCEEDED", b"images", cost_micros=40))
    (stored,) = await stores.attempts.list(job.lease.job_id)
    assert (stored.indices, stored.images, stored.cost_micros, stored.state) == ((0, 2), b"images", 40, "SUCCEEDED")
    assert (await stores.events())[-1] == "AttemptFinished"


async def test_depths_count_waiting_jobs(stores: Stores) -> None:
    await stores.take()
    await stores.submit()
    await stores.submit(lane="BATCH")
    assert await stores.queue.depths() == {"INTERACTIVE": 1, "BATCH": 1}


async def test_inputs_wait_until_they_are_stored(stores: Stores) -> None:
    job = await stores.take(inputs={"images[0]": b"png", "mask": b"m"})
    assert job.has_inputs
    assert await stores.jobs.read_inputs(job.lease.job_id) == {"images[0]": b"png", "mask": b"m"}
    await stores.queue.store_inputs(job.lease, b"\x0a\x01x")
    assert await stores.jobs.read_inputs(job.lease.job_id) == {}
    assert (await stores.record(job.lease.job_id)).spec == b"\x0a\x01x"


async def test_an_unknown_lease_is_lost(stores: Stores) -> None:
    with pytest.raises(LeaseLost):
        await stores.queue.finish(Lease("job_none", 1, "w1"), Ending("FAILED"))


async def _owner(stores: Stores, job_id: str) -> str:
    query = sa.select(jobs.c.lease_owner).where(jobs.c.job_id == job_id)
    return str(await stores.database.read(lambda c: c.execute(query).scalar_one()))
