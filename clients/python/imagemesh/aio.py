"""The client for asyncio: the same calls as `imagemesh.client`, none of which blocks the loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import grpc
import grpc.aio

from imagemesh.calls import (
    CHANNEL_OPTIONS,
    Connection,
    broken_off,
    is_last,
    may_repeat,
    new_request_id,
    next_wait,
)
from imagemesh.client import GENERATE_SECONDS, OnUpdate
from imagemesh.errors import ImagemeshError, from_call, raise_unless_done
from imagemesh.generation import Options, to_job_options, to_spec
from imagemesh.results import download, fresh_url_of
from imagemesh.router.v1 import (
    catalog_pb2,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
)

Q = TypeVar("Q")
A = TypeVar("A")
U = TypeVar("U", job_service_pb2.GenerateImageResponse, job_service_pb2.WatchJobResponse)


class AsyncClient:
    """One connection to a mesh, made and used in one event loop. See `imagemesh.Client` for the arguments."""

    def __init__(self, target: str, api_key: str = "", connection: Connection | None = None) -> None:
        self.target = target
        self._connection = connection or Connection()
        self._metadata = self._connection.call_metadata(api_key)
        credentials = self._connection.credentials
        if credentials:
            self._channel = grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self._channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(self._channel)

    async def close(self) -> None:
        """Ends every call of this client; jobs go on."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def generate(
        self, prompt: str, options: Options | None = None, on_update: OnUpdate | None = None
    ) -> job_pb2.Job:
        """As `Client.generate`, with the job as it ended; `picture` fetches its bytes. Cancelling the task leaves the
        job running."""
        options = options or Options()
        request = job_service_pb2.GenerateImageRequest(
            request_id=new_request_id(), spec=to_spec(prompt, options), options=to_job_options(options)
        )
        seconds = GENERATE_SECONDS if options.deadline is None else options.deadline + 60
        job = job_pb2.Job()
        async for update in self.generate_stream(request, seconds):
            if on_update:
                on_update(update)
            if update.HasField("job"):
                job = update.job
        raise_unless_done(job)
        return job

    def generate_stream(
        self, request: job_service_pb2.GenerateImageRequest, timeout: float = GENERATE_SECONDS
    ) -> AsyncIterator[job_service_pb2.GenerateImageResponse]:
        """As `Client.generate_stream`."""
        return self._stream(self.jobs.GenerateImage, request, timeout)

    async def create(self, prompt: str, options: Options | None = None, request_id: str = "") -> job_pb2.Job:
        """Stores a job and does not wait for it."""
        options = options or Options()
        request = job_service_pb2.CreateJobRequest(
            request_id=request_id or new_request_id(), spec=to_spec(prompt, options), options=to_job_options(options)
        )
        return (await self.call(self.jobs.CreateJob, request)).job

    async def get(self, job_id: str) -> job_pb2.Job:
        """The job as it stands now, with addresses minted now."""
        return (await self.call(self.jobs.GetJob, job_service_pb2.GetJobRequest(job_id=job_id))).job

    def watch(self, job_id: str, timeout: float = GENERATE_SECONDS) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        """Every change of the job until it has ended."""
        return self._stream(self.jobs.WatchJob, job_service_pb2.WatchJobRequest(job_id=job_id), timeout)

    async def cancel(self, job_id: str) -> job_pb2.Job:
        """Asks to cancel; the job may still be RUNNING in the answer."""
        return (await self.call(self.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=job_id))).job

    async def list(self, request: job_service_pb2.ListJobsRequest | None = None) -> AsyncIterator[job_pb2.Job]:
        """Every job that the filter lets through, newest first, page after page."""
        asked = job_service_pb2.ListJobsRequest()
        asked.CopyFrom(request or asked)
        while True:
            answer = await self.call(self.jobs.ListJobs, asked)
            for job in answer.jobs:
                yield job
            if not answer.next_page_token:
                return
            asked.page_token = answer.next_page_token

    async def quote(self, prompt: str, options: Options | None = None) -> Sequence[catalog_pb2.Offer]:
        """What each candidate would cost, in the order a job would try them."""
        options = options or Options()
        request = catalog_service_pb2.QuoteRequest(spec=to_spec(prompt, options), options=to_job_options(options))
        return (await self.call(self.catalog.Quote, request)).offers

    async def picture(self, job: job_pb2.Job, index: int) -> bytes:
        """The original of one picture, fetched in a thread and checked against its sha256."""
        image = next(image for image in job.images if image.index == index)
        url = image.url or fresh_url_of(await self.get(job.job_id), index)
        return await asyncio.to_thread(download, url, image.sha256)

    async def call(self, method: grpc.aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, repeatable: bool = True) -> A:
        """As `Client.call`."""
        waits = self._connection.retries.waits()
        while True:
            try:
                return await method(request, timeout=self._connection.timeout, metadata=self._metadata)
            except grpc.RpcError as failure:
                error = from_call(failure, self.target)
                if not may_repeat(error, repeatable):
                    raise error from failure
            await asyncio.sleep(next_wait(waits, error))

    async def _stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Q, U], request: Q, timeout: float
    ) -> AsyncIterator[U]:
        end = time.monotonic() + timeout
        waits = self._connection.retries.waits()
        while True:
            call = method(request, timeout=max(0.001, end - time.monotonic()), metadata=self._metadata)
            error: ImagemeshError = broken_off(self.target)
            ended = False
            try:
                async for update in call:
                    waits = self._connection.retries.waits()
                    ended = is_last(update)
                    yield update
            except grpc.RpcError as failure:
                error = from_call(failure, self.target)
                if not ended and not may_repeat(error, repeatable=True):
                    raise error from failure
            finally:
                call.cancel()
            if ended:
                return
            await asyncio.sleep(min(next_wait(waits, error), max(0.0, end - time.monotonic())))
