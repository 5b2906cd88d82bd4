"""Following jobs: signals, the poll below them, slow readers, streams that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from imagemesh.router.v1 import job_pb2
from imagemesh.router.v1 import job_service_pb2 as pb

from mesh.errors import Unavailable
from mesh.events import Bus, BusConfig
from services.router.leases import Beat, Ending, Lease, Parking
from services.router.signals import BEGUN
from tests.conftest import NatsServer
from tests.router.api import RunningApi, create, refused, running_api

PUBLISHED = job_pb2.Job(
    images=[job_pb2.JobImage(index=0, asset_id="ast_1", state=job_pb2.IMAGE_STATE_PUBLISHED)]
).SerializeToString()
DONE = Ending("SUCCEEDED", images=PUBLISHED, cost_micros=10_000, image_count=1)


@pytest.fixture
async def polled(tmp_path: Path) -> AsyncIterator[RunningApi]:
    """Without NATS: only the poll tells."""
    async with running_api(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path) as running:
        yield running


@pytest.fixture
async def signaled(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[RunningApi]:
    """With NATS and a poll that never comes."""
    url = f"sqlite:///{tmp_path / 'truth.db'}"
    async with running_api(url, tmp_path, nats_server.url, watch_poll_seconds=3600) as running:
        yield running


async def updates(call: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return [update.job if update.HasField("job") else update.progress async for update in call]


async def next_job(call: Any) -> job_pb2.Job:
    async with asyncio.timeout(20):
        async for update in call:
            if update.HasField("job"):
                return update.job
    raise AssertionError("the stream ended")


async def claim(api: RunningApi) -> Lease:
    (job,) = await api.stores.claim()
    return job.lease


async def test_generate_image_tells_every_state_without_nats(polled: RunningApi) -> None:
    key = await polled.key()
    call = polled.jobs.GenerateImage(pb.GenerateImageRequest.FromString(create().SerializeToString()), metadata=key)
    stored = await next_job(call)
    assert (stored.state, stored.version) == (job_pb2.JOB_STATE_QUEUED, 1)
    lease = await claim(polled)
    running = await next_job(call)
    assert (running.state, running.version) == (job_pb2.JOB_STATE_RUNNING, 2)
    await polled.stores.queue.finish(lease, DONE)
    (ended,) = await updates(call)
    assert (ended.state, ended.version, ended.images[0].url) == (
        job_pb2.JOB_STATE_SUCCEEDED,
        3,
        "https://s/acme/ast_1",
    )


async def test_versions_only_grow_and_an_ended_job_is_told_once(polled: RunningApi) -> None:
    key = await polled.key()
    job_id = (await polled.jobs.CreateJob(create(), metadata=key)).job.job_id
    lease = await claim(polled)
    calls = [polled.jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=key) for _ in range(5)]
    firsts = [await next_job(call) for call in calls]
    assert {job.version for job in firsts} == {2}
    await polled.stores.queue.park(lease, Parking("REVIEW", -1))
    lease = await claim(polled)
    await polled.stores.queue.resume(lease)
    await polled.stores.queue.finish(lease, DONE)
    for call in calls:
        versions = [job.version for job in await updates(call)]
        assert versions == sorted(set(versions))
        assert versions[-1] == 5
    (again,) = await updates(polled.jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=key))
    assert again.version == 5


async def test_progress_of_heartbeats_is_told_without_nats(polled: RunningApi) -> None:
    key = await polled.key()
    job_id = (await polled.jobs.CreateJob(create(), metadata=key)).job.job_id
    lease = await claim(polled)
    call = polled.jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=key)
    await next_job(call)
    await polled.stores.queue.heartbeat("w1", [Beat(lease, "draw", (5, 20))], 30)
    async with asyncio.timeout(20):
        async for update in call:
            assert (update.progress.step, update.progress.steps) == (5, 20)
            break


async def test_signals_tell_versions_and_progress(signaled: RunningApi, nats_server: NatsServer) -> None:
    key = await signaled.key()
    worker = Bus(BusConfig(nats_server.url, "worker"))
    await worker.start()
    await _connected(worker, signaled.api._bus)
    call = signaled.jobs.GenerateImage(pb.GenerateImageRequest.FromString(create().SerializeToString()), metadata=key)
    job_id = (await next_job(call)).job_id
    lease = await claim(signaled)
    progress = job_pb2.JobProgress(step=1, steps=4)
    await worker.signal(f"job-progress.{job_id}", progress.SerializeToString())
    async with asyncio.timeout(20):
        async for update in call:
            assert update.progress == progress
            break
    await worker.signal(f"job-progress.{job_id}", b"\xff\xff")
    await worker.signal(f"job.{job_id}", b"2")
    assert (await next_job(call)).version == 2
    await signaled.stores.queue.finish(lease, DONE)
    await worker.signal(f"job.{job_id}", b"3")
    assert [job.version for job in await updates(call)] == [3]
    await worker.stop()


async def test_the_begin_of_a_job_is_told_a_moment_later_and_never_after_its_end(
    signaled: RunningApi, nats_server: NatsServer
) -> None:
    key = await signaled.key()
    worker = Bus(BusConfig(nats_server.url, "worker"))
    await worker.start()
    await _connected(worker, signaled.api._bus)
    request = pb.GenerateImageRequest.FromString(create().SerializeToString())
    call = signaled.jobs.GenerateImage(request, metadata=key)
    job_id = (await next_job(call)).job_id
    lease = await claim(signaled)
    await worker.signal(f"job.{job_id}", b"2" + BEGUN)
    assert (await next_job(call)).version == 2
    await signaled.stores.queue.finish(lease, DONE)
    await worker.signal(f"job.{job_id}", b"2" + BEGUN)
    await worker.signal(f"job.{job_id}", b"3")
    assert [job.version for job in await updates(call)] == [3]
    await worker.stop()


async def test_a_new_job_wakes_workers_and_a_cancel_reaches_them(signaled: RunningApi, nats_server: NatsServer) -> None:
    key = await signaled.key()
    worker, heard = Bus(BusConfig(nats_server.url, "worker")), asyncio.Queue[str]()
    await worker.start()

    async def hear(subject: str, _payload: bytes) -> None:
        await heard.put(subject)

    for subject in ("jobs.wake.*", "cancel.*"):
        await worker.on_signal(subject, hear)
    await _connected(worker, signaled.api._bus)
    await worker._client.flush()
    job_id = (await signaled.jobs.CreateJob(create(), metadata=key)).job.job_id
    assert await asyncio.wait_for(heard.get(), 10) == "jobs.wake.INTERACTIVE"
    await claim(signaled)
    await signaled.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=key)
    assert await asyncio.wait_for(heard.get(), 10) == f"cancel.{job_id}"
    await worker.stop()


async def test_dropping_a_stream_cancels_nothing_and_frees_its_place(tmp_path: Path) -> None:
    async with running_api(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path, watch_limit=1) as api:
        key = await api.key()
        request = pb.GenerateImageRequest.FromString(create().SerializeToString())
        call = api.jobs.GenerateImage(request, metadata=key)
        job = await next_job(call)
        busy = await refused(api.jobs.WatchJob(pb.WatchJobRequest(job_id=job.job_id), metadata=key))
        assert busy[:2] == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        call.cancel()
        async with asyncio.timeout(10):
            while api.api.watching.count:
                await asyncio.sleep(0.01)
        assert not (await api.stores.record(job.job_id)).cancel_requested


async def test_a_draining_process_sends_its_watchers_away(tmp_path: Path) -> None:
    async with running_api(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path) as api:
        key = await api.key()
        job_id = (await api.jobs.CreateJob(create(), metadata=key)).job.job_id
        call = api.jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=key)
        await next_job(call)
        await api.api.watching.stop()
        assert (await refused(call))[:2] == ("UNAVAILABLE", "DRAINING")
        late = api.jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), metadata=key)
        assert (await refused(late))[:2] == ("UNAVAILABLE", "DRAINING")


async def test_a_fault_of_the_database_ends_no_stream(polled: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await polled.key()
    call = polled.jobs.GenerateImage(pb.GenerateImageRequest.FromString(create().SerializeToString()), metadata=key)
    await next_job(call)
    lease = await claim(polled)
    faults = [Unavailable("down"), sa.exc.OperationalError("select", {}, Exception("gone")), Unavailable("down")]
    for method in ("versions", "many"):
        monkeypatch.setattr(polled.api.jobs, method, failing_first(getattr(polled.api.jobs, method), list(faults)))
    await polled.stores.queue.finish(lease, DONE)
    assert (await updates(call))[-1].version == 3


def failing_first(method: Any, faults: list[Exception]) -> Any:
    async def call(ids: Any) -> Any:
        if faults:
            raise faults.pop()
        return await method(ids)

    return call


async def _connected(*buses: Bus) -> None:
    async with asyncio.timeout(20):
        while not all(bus.connected for bus in buses):
            await asyncio.sleep(0.02)
