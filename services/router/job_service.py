"""JobService: the RPC edge of jobs."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagemesh.router.v1 import job_pb2
from imagemesh.router.v1 import job_service_pb2 as pb

from mesh import paging, telemetry
from mesh.auth import principal
from mesh.events import Bus
from mesh.outbox import Relay
from mesh.telemetry import TraceContext
from mesh.validation import check, refuse_set
from services.router import wire_job, wire_record
from services.router.batch_service import BatchRpcs
from services.router.job_store import Found, JobStore
from services.router.records import JobRecord
from services.router.submission import Creation, Origin, Submission, Submitted, new_origin
from services.router.urls import Urls, add_urls
from services.router.watching import Watcher, Watching

FILTER_LATER = {"filter.batch_id": "give jobs a common label and filter by it"}

MOST_FULL = 50
PAGE_BYTES = 3 * 1024 * 1024
"""Bounds of one page of jobs, full ones and bytes: below 4 MiB, the largest message gRPC clients take by default."""


@dataclass(frozen=True)
class Tellers:
    """Who is told of changes after their commit: other processes over NATS, and the relay of the outbox."""

    bus: Bus
    relay: Relay

    async def waiting(self, lane: str) -> None:
        """A job waits in the lane."""
        self.relay.wake()
        await self.bus.signal(f"jobs.wake.{lane}")

    async def canceling(self, job_id: str) -> None:
        """A running job is to be canceled."""
        await self.bus.signal(f"cancel.{job_id}")

    async def changed(self, job_id: str, version: int) -> None:
        """A job has a new version."""
        self.relay.wake()
        await self.bus.signal(f"job.{job_id}", str(version).encode())


class JobService(BatchRpcs):
    """Decodes, calls, encodes. Jobs of other tenants do not exist for the caller."""

    def __init__(
        self, submission: Submission, store: JobStore, watching: Watching, urls: Urls, tellers: Tellers
    ) -> None:
        self._submission = submission
        self._store = store
        self._watching = watching
        self._urls = urls
        self._tellers = tellers

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.CreateJobResponse:
        """Stores a job."""
        submitted = await self._submit(request, new_origin(telemetry.current()))
        return pb.CreateJobResponse(job=submitted.job)

    async def GenerateImage(
        self, request: pb.GenerateImageRequest, context: Any
    ) -> AsyncIterator[pb.GenerateImageResponse]:
        """Stores a job and follows it. The watch begins before the commit, so nothing of the job can be missed."""
        origin = new_origin(telemetry.current())
        with self._watching.watch(origin.job_id, version=1) as watcher:
            submitted = await self._submit(request, origin)
            yield pb.GenerateImageResponse(job=submitted.job)
            if submitted.job.job_id == origin.job_id:
                async for update in self._follow(watcher):
                    yield pb.GenerateImageResponse(**update)
                return
        if submitted.repeated:
            async for update in self._watch(submitted.job.job_id, submitted.job.version):
                yield pb.GenerateImageResponse(**update)

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        """Reads a job."""
        check(request, wire_job.GET_RULES)
        found = await self._store.get(principal().tenant, request.job_id)
        if request.view == pb.JOB_VIEW_BASIC:
            return pb.GetJobResponse(job=wire_record.basic_job(found[0]))
        return pb.GetJobResponse(job=await self._full(found))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """One page of the tenant's jobs, newest first."""
        refuse_set(request, FILTER_LATER)
        wire_job.check_list(request)
        wanted = wire_record.read_filter(request, principal().tenant)
        full = request.view == pb.JOB_VIEW_FULL
        size, scope = paging.page_size(request.page_size, most=MOST_FULL if full else 200), repr(wanted)
        after = str(paging.decode_token(request.page_token, scope)[0]) if request.page_token else ""
        records = await self._store.list(wanted, after, size + 1)
        jobs = _fitting(await self._listed(records[:size], full=full))
        more = paging.encode_token((jobs[-1].job_id,), scope) if len(records) > len(jobs) else ""
        return pb.ListJobsResponse(jobs=jobs, next_page_token=more)

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """Follows a job until it has ended."""
        check(request, wire_job.JOB_ID_RULES)
        async for update in self._watch(request.job_id, 0):
            yield pb.WatchJobResponse(**update)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.CancelJobResponse:
        """Ends a waiting job, asks the worker of a running one to stop."""
        check(request, wire_job.JOB_ID_RULES)
        tenant, job_id = principal().tenant, request.job_id
        canceled = await self._store.cancel(tenant, job_id)
        if not canceled.ended:
            await self._tellers.canceling(job_id)
        await self._tellers.changed(job_id, canceled.version)
        return pb.CancelJobResponse(job=await self._full(await self._store.get(tenant, job_id)))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Any) -> pb.RetryJobResponse:
        """A new job from an ended one."""
        check(request, wire_job.RETRY_RULES)
        caller = principal()
        parent, _ = await self._store.get(caller.tenant, request.job_id)
        submitted = await self._submission.retry(caller, request, new_origin(telemetry.current(), parent))
        await self._tell(submitted)
        return pb.RetryJobResponse(job=submitted.job)

    async def _submit(self, request: Creation, origin: Origin) -> Submitted:
        submitted = await self._submission.submit(principal(), request, origin)
        await self._tell(submitted)
        return submitted

    async def _tell(self, submitted: Submitted) -> None:
        """Wakes a worker for a new job; gives the pictures of a repeated one their addresses."""
        if submitted.repeated:
            _link("job.repeated", submitted.traceparent)
            await add_urls(self._urls, principal().tenant, [submitted.job])
        elif submitted.job.job_id:
            await self._tellers.waiting(submitted.lane)

    async def _watch(self, job_id: str, version: int) -> AsyncIterator[Mapping[str, Any]]:
        """Listens first and reads the row then; a state that is not newer than `version` is not repeated."""
        with self._watching.watch(job_id, version) as watcher:
            watcher.offer(found := await self._store.get(principal().tenant, job_id))
            _link("job.watched", found[0].traceparent)
            if found[0].ended and found[0].version <= version:
                return
            async for update in self._follow(watcher):
                yield update

    async def _follow(self, watcher: Watcher) -> AsyncIterator[Mapping[str, Any]]:
        async for update in watcher.updates():
            if isinstance(update, job_pb2.JobProgress):
                yield {"progress": update}
            else:
                yield {"job": await self._full(update)}

    async def _full(self, found: Found) -> job_pb2.Job:
        record, attempts = found
        job = wire_record.full_job(record, attempts)
        if record.state == "QUEUED":
            job.queue.position = await self._store.position(record.lane, record.turn)
        if record.ended:
            await add_urls(self._urls, record.tenant, [job])
        return job

    async def _listed(self, records: Sequence[JobRecord], *, full: bool) -> list[job_pb2.Job]:
        if not full or not records:
            return [wire_record.basic_job(record) for record in records]
        attempts = await self._store.attempts([record.job_id for record in records])
        jobs = [wire_record.full_job(record, attempts.get(record.job_id, ())) for record in records]
        await add_urls(self._urls, records[0].tenant, jobs)
        return jobs


def _fitting(jobs: Sequence[job_pb2.Job]) -> list[job_pb2.Job]:
    """The first jobs that fit into one message; at least one."""
    sizes = itertools.accumulate(job.ByteSize() for job in jobs)
    return [job for number, (job, size) in enumerate(zip(jobs, sizes, strict=True)) if not number or size <= PAGE_BYTES]


def _link(name: str, traceparent: str) -> None:
    """Marks in the caller's trace that it follows a job whose own trace began elsewhere."""
    if traceparent:
        with telemetry.span(name, links=(TraceContext(traceparent),)):
            pass
