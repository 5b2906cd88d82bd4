"""The worker: claims, leases, cancels, lost leases, stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from imagemesh.router.v1 import job_pb2

from services.router.holds import Parts, WorkerConfig
from services.router.leases import ClaimedJob, ClaimRequest
from services.router.signals import BEGUN
from services.router.tables import attempts, jobs
from services.router.worker import Worker
from tests.router.rig import Rig
from tests.router.stores import Stores


class Desk:
    """A worker, what it told, and waits for what it does."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.told: list[tuple[str, bytes]] = []
        self.changed = asyncio.Condition()
        self.stopping = asyncio.Event()

    def worker(self, **changes: object) -> Worker:
        config = WorkerConfig(**{"owner": "w1", "poll_s": 0.05, "drain_s": 5.0, **changes})  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        parts = Parts(self.rig.stores.queue, self.rig.pipeline, self.rig.runs, loop.time, self._tell)
        return Worker(config, parts)

    @asynccontextmanager
    async def working(self, **changes: object) -> AsyncIterator[Worker]:
        worker = self.worker(**changes)
        task = asyncio.create_task(worker.run(self.stopping))
        try:
            yield worker
        finally:
            self.stopping.set()
            await task

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20), self.changed:
            while not await holds():
                await self.changed.wait()

    async def until_state(self, *states: str) -> None:
        async def reached() -> bool:
            return all(row.state in states for row in await self.rig.stores.rows(jobs))

        await self.until(reached)

    def _tell(self, subject: str, payload: bytes) -> None:
        self.told.append((subject, payload))
        asyncio.get_running_loop().create_task(self._notify())

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


@pytest.fixture
def desk(stores: Stores, tmp_path: Path) -> Desk:
    return Desk(Rig(stores, tmp_path))


async def test_works_off_what_waits(desk: Desk) -> None:
    for _ in range(20):
        await desk.rig.submit()
    async with desk.working(slots=4):
        await desk.until_state("SUCCEEDED")
    assert len(desk.rig.one.calls) == 20
    assert len(desk.rig.storage.published()) == 20


async def test_never_holds_more_than_its_slots(desk: Desk) -> None:
    desk.rig.one.script = ["hang"] * 3
    for _ in range(5):
        await desk.rig.submit()
    async with desk.working(slots=3, drain_s=0.1) as worker:
        await desk.rig.one.until_asked(3)
        assert worker.held == 3
        assert len([row for row in await desk.rig.stores.rows(jobs) if row.state == "QUEUED"]) == 2


async def test_a_signal_makes_it_look_at_once(desk: Desk) -> None:
    async with desk.working(poll_s=600.0) as worker:
        await asyncio.sleep(0)
        await desk.rig.submit()
        worker.wake("INTERACTIVE")
        await desk.until(lambda: finished(desk))


async def finished(desk: Desk) -> bool:
    return all(row.state == "SUCCEEDED" for row in await desk.rig.stores.rows(jobs))


async def test_tells_versions_and_progress(desk: Desk) -> None:
    job_id = await desk.rig.submit()
    async with desk.working():
        await desk.until_state("SUCCEEDED")
    told = [payload for subject, payload in desk.told if subject == f"job.{job_id}"]
    assert [payload.endswith(BEGUN) for payload in told] == [True, *[False] * (len(told) - 1)]
    versions = [int(payload.removesuffix(BEGUN)) for payload in told]
    record = await desk.rig.record(job_id)
    assert versions == sorted(versions)
    assert versions[-1] == record.version
    (progress,) = [payload for subject, payload in desk.told if subject == f"job-progress.{job_id}"]
    assert job_pb2.JobProgress.FromString(progress) == job_pb2.JobProgress(step=1, steps=2)


async def test_a_cancel_stops_the_drawing(desk: Desk) -> None:
    desk.rig.one.script = ["hang"]
    job_id = await desk.rig.submit()
    async with desk.working() as worker:
        await desk.rig.one.until_asked()
        await desk.rig.stores.jobs.cancel("acme", job_id)
        worker.cancel_wanted(job_id)
        await desk.until_state("CANCELED")
    (attempt,) = await desk.rig.stores.rows(attempts)
    assert attempt.state == "UNKNOWN"  # the provider may have drawn, and may bill


async def test_the_heartbeat_finds_a_cancel_without_a_signal(desk: Desk) -> None:
    desk.rig.one.script = ["hang"]
    job_id = await desk.rig.submit()
    async with desk.working(lease_s=1.5):
        await desk.rig.one.until_asked()
        await desk.rig.stores.jobs.cancel("acme", job_id)
        await desk.until_state("CANCELED")


async def test_a_lost_lease_stops_the_task(desk: Desk) -> None:
    desk.rig.one.script = ["hang"]
    await desk.rig.submit()
    async with desk.working(drain_s=0.1) as worker:
        await desk.rig.one.until_asked()
        await desk.rig.stores.database.write(lambda c: c.execute(jobs.update().values(epoch=9)) and None)
        worker.cancel_wanted((await desk.rig.stores.rows(jobs))[0].job_id)
        await until_idle(worker)
    assert (await desk.rig.stores.rows(jobs))[0].state == "RUNNING"


async def until_idle(worker: Worker) -> None:
    async with asyncio.timeout(20):
        while worker.held:
            await asyncio.sleep(0.01)


async def test_its_own_lease_that_ran_out_is_taken_anew(desk: Desk) -> None:
    desk.rig.one.script = ["hang"]
    desk.rig.two.script = ["hang"]
    await desk.rig.submit()
    async with desk.working(drain_s=0.1) as worker:
        await desk.rig.one.until_asked()
        (first,) = worker._held.values()
        await desk.rig.stores.database.write(lambda c: c.execute(jobs.update().values(wake_at=1)) and None)
        await desk.rig.two.until_asked()
        assert first.task is not None
        await asyncio.wait([first.task], timeout=20)
        assert [hold.job.lease.epoch for hold in worker._held.values()] == [2]  # and its heartbeat goes on


async def test_signals_of_one_lane_do_not_starve_the_other(desk: Desk) -> None:
    async def signals(worker: Worker) -> None:
        while True:
            worker.wake("INTERACTIVE")
            await asyncio.sleep(0.005)

    await desk.rig.submit()
    later = jobs.update().values(lane="BATCH", run_at=jobs.c.run_at + 300_000)
    await desk.rig.stores.database.write(lambda c: c.execute(later) and None)
    async with desk.working() as worker:
        busy = asyncio.create_task(signals(worker))
        await desk.until_state("SUCCEEDED")
        busy.cancel()


async def test_stopping_lets_orders_under_way_finish(desk: Desk) -> None:
    go_on = asyncio.Event()

    async def slow(call: object) -> object:
        await go_on.wait()
        return desk.rig.one._draw(call, "draw")  # type: ignore[arg-type]

    desk.rig.one.script = [slow]  # type: ignore[list-item]
    await desk.rig.submit()
    async with desk.working():
        await desk.rig.one.until_asked()
        desk.stopping.set()
        go_on.set()
    (record,) = await desk.rig.stores.rows(jobs)
    assert (record.state, record.lease_owner) == ("RUNNING", "")  # stored, then handed over at the next step
    assert [row.state for row in await desk.rig.stores.rows(attempts)] == ["SUCCEEDED"]
    desk.stopping.clear()
    async with desk.working(owner="w2"):
        await desk.until_state("SUCCEEDED")
    assert len(desk.rig.one.calls) == 1


async def test_stopping_gives_up_orders_that_take_too_long(desk: Desk) -> None:
    desk.rig.one.script = ["hang"]
    await desk.rig.submit()
    async with desk.working(drain_s=0.1):
        await desk.rig.one.until_asked()
    assert [row.state for row in await desk.rig.stores.rows(attempts)] == ["UNKNOWN"]
    desk.stopping.clear()
    async with desk.working(owner="w2"):
        await desk.until_state("SUCCEEDED")
    assert (len(desk.rig.one.calls), len(desk.rig.two.calls)) == (1, 1)


async def test_stopping_while_claiming_hands_back_what_was_claimed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, claimed, go_on = desk.rig.stores.queue.claim, asyncio.Event(), asyncio.Event()

    async def slowly(request: ClaimRequest) -> list[ClaimedJob]:
        jobs = await claim(request)
        if jobs:
            claimed.set()
            await go_on.wait()
        return jobs

    monkeypatch.setattr(desk.rig.stores.queue, "claim", slowly)
    await desk.rig.submit()
    async with desk.working():
        await claimed.wait()
        desk.stopping.set()
        await asyncio.sleep(0.01)
        go_on.set()
    assert desk.rig.one.calls == []
    (again,) = await claim(ClaimRequest("w2", "INTERACTIVE", 1))
    assert (again.step_losses, again.taken_from) == (0, "")


async def test_a_parked_job_is_taken_up_when_its_cause_is_gone(desk: Desk) -> None:
    desk.rig.moderation.down = True
    job_id = await desk.rig.submit()

    async def parked() -> bool:
        return (await desk.rig.record(job_id)).waiting_for == "MODERATION"

    async with desk.working():
        await desk.until(parked)
        desk.rig.moderation.down = False
        await desk.rig.stores.queue.poke(job_id)
        await desk.until_state("SUCCEEDED")


async def test_a_bug_leaves_the_job_to_another_worker(desk: Desk) -> None:
    async def broken(_job: object) -> object:
        raise ZeroDivisionError

    desk.rig.one.script = [broken]  # type: ignore[list-item]
    await desk.rig.submit()
    async with desk.working() as worker:
        await desk.rig.one.until_asked()
        await until_idle(worker)
    (record,) = await desk.rig.stores.rows(jobs)
    assert (record.state, record.lease_owner) == ("RUNNING", "w1")  # its lease runs out, which is counted


async def test_batch_jobs_leave_room(desk: Desk) -> None:
    desk.rig.one.script = ["hang"] * 4
    for _ in range(4):
        await desk.rig.submit()
    await desk.rig.stores.database.write(lambda c: c.execute(jobs.update().values(lane="BATCH")) and None)
    async with desk.working(slots=4, batch_slots=2, drain_s=0.1) as worker:
        await desk.rig.one.until_asked(2)
        assert worker.held == 2


@pytest.mark.parametrize("turns", range(-3, 4))
async def test_a_wake_up_as_it_stops_does_not_keep_a_worker(tmp_path: Path, stores: Stores, turns: int) -> None:
    desk = Desk(Rig(stores, tmp_path))
    worker = desk.worker(poll_s=60.0)
    working = asyncio.create_task(worker.run(desk.stopping))
    await asyncio.sleep(0.05)  # it has looked, and waits for the next poll
    for turn in range(-3, 5):  # of the loop
        if turn == 0:
            desk.stopping.set()
        if turn == turns:
            worker.wake("INTERACTIVE")
        await asyncio.sleep(0)
    _, late = await asyncio.wait([working], timeout=5.0)
    working.cancel()
    assert not late
