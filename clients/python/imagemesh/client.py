"""The client for programs that block. `imagemesh.aio` has the same calls for asyncio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import grpc

from imagemesh.calls import (
    CHANNEL_OPTIONS,
    Connection,
    broken_off,
    is_last,
    may_repeat,
    new_request_id,
    next_wait,
)
from imagemesh.errors import ImagemeshError, from_call, raise_unless_done
from imagemesh.generation import Options, to_job_options, to_spec
from imagemesh.results import JobResult, fresh_url_of
from imagemesh.router.v1 import (
    api_key_service_pb2_grpc,
    catalog_pb2,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    usage_service_pb2_grpc,
)

Q = TypeVar("Q")
A = TypeVar("A")
S = TypeVar("S")
U = TypeVar("U", job_service_pb2.GenerateImageResponse, job_service_pb2.WatchJobResponse)
OnUpdate = Callable[[job_service_pb2.GenerateImageResponse], None]
GENERATE_SECONDS = 900.0


class Client:
    """One connection to a mesh, safe to use from several threads. Close it, or use it in a `with` block.

    target: `host:port` of the router. api_key: as made by ApiKeyService; empty sends none.
    """

    def __init__(self, target: str, api_key: str = "", connection: Connection | None = None) -> None:
        self.target = target
        self._connection = connection or Connection()
        self._metadata = self._connection.call_metadata(api_key)
        credentials = self._connection.credentials
        if credentials:
            self._channel = grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self.jobs = job_service_pb2_grpc.JobServiceStub(self._channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(self._channel)
        self.usage = usage_service_pb2_grpc.UsageServiceStub(self._channel)
        self.keys = api_key_service_pb2_grpc.ApiKeyServiceStub(self._channel)

    def close(self) -> None:
        """Ends every call of this client; jobs go on."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(self, prompt: str, options: Options | None = None, on_update: OnUpdate | None = None) -> JobResult:
        """Draws pictures and returns when the job has ended. Raises JobError when it has no picture, TimeLimitError
        when it goes on beyond its deadline and a minute; the job itself is not ended by that."""
        options = options or Options()
        request = job_service_pb2.GenerateImageRequest(
            request_id=new_request_id(), spec=to_spec(prompt, options), options=to_job_options(options)
        )
        seconds = GENERATE_SECONDS if options.deadline is None else options.deadline + 60
        job = job_pb2.Job()
        for update in self.generate_stream(request, seconds):
            if on_update:
                on_update(update)
            if update.HasField("job"):
                job = update.job
        raise_unless_done(job)
        return self.result(job)

    def generate_stream(
        self, request: job_service_pb2.GenerateImageRequest, timeout: float = GENERATE_SECONDS
    ) -> Iterator[job_service_pb2.GenerateImageResponse]:
        """GenerateImage, taken up again with the same request id when the connection breaks. Give it a request id."""
        return self._stream(self.jobs.GenerateImage, request, timeout)

    def create(self, prompt: str, options: Options | None = None, request_id: str = "") -> job_pb2.Job:
        """Stores a job and does not wait for it."""
        options = options or Options()
        request = job_service_pb2.CreateJobRequest(
            request_id=request_id or new_request_id(), spec=to_spec(prompt, options), options=to_job_options(options)
        )
        return self.call(self.jobs.CreateJob, request).job

    def get(self, job_id: str) -> job_pb2.Job:
        """The job as it stands now, with addresses minted now."""
        return self.call(self.jobs.GetJob, job_service_pb2.GetJobRequest(job_id=job_id)).job

    def watch(self, job_id: str, timeout: float = GENERATE_SECONDS) -> Iterator[job_service_pb2.WatchJobResponse]:
        """Every change of the job until it has ended."""
        return self._stream(self.jobs.WatchJob, job_service_pb2.WatchJobRequest(job_id=job_id), timeout)

    def cancel(self, job_id: str) -> job_pb2.Job:
        """Asks to cancel; the job may still be RUNNING in the answer."""
        return self.call(self.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=job_id)).job

    def retry(self, job_id: str, request_id: str = "") -> job_pb2.Job:
        """A new job from an ended one."""
        request = job_service_pb2.RetryJobRequest(job_id=job_id, request_id=request_id or new_request_id())
        return self.call(self.jobs.RetryJob, request).job

    def list(self, request: job_service_pb2.ListJobsRequest | None = None) -> Iterator[job_pb2.Job]:
        """Every job that the filter lets through, newest first, page after page."""
        asked = job_service_pb2.ListJobsRequest()
        asked.CopyFrom(request or asked)
        while True:
            answer = self.call(self.jobs.ListJobs, asked)
            yield from answer.jobs
            if not answer.next_page_token:
                return
            asked.page_token = answer.next_page_token

    def quote(self, prompt: str, options: Options | None = None) -> Sequence[catalog_pb2.Offer]:
        """What each candidate would cost, in the order a job would try them."""
        options = options or Options()
        request = catalog_service_pb2.QuoteRequest(spec=to_spec(prompt, options), options=to_job_options(options))
        return self.call(self.catalog.Quote, request).offers

    def result(self, job: job_pb2.Job) -> JobResult:
        """An ended job with pictures that can be fetched."""
        return JobResult(job, lambda index: fresh_url_of(self.get(job.job_id), index))

    def stub(self, kind: Callable[[grpc.Channel], S]) -> S:
        """A stub of another service behind the same target, such as `StorageServiceStub`; use it through `call`."""
        return kind(self._channel)

    def call(self, method: grpc.UnaryUnaryMultiCallable[Q, A], request: Q, *, repeatable: bool = True) -> A:
        """Any unary rpc of `jobs`, `catalog`, `usage`, `keys` or a `stub`, with this client's key, deadline and errors.

        repeatable: whether it may be sent again after UNAVAILABLE.
        """
        waits = self._connection.retries.waits()
        while True:
            try:
                return method(request, timeout=self._connection.timeout, metadata=self._metadata)
            except grpc.RpcError as failure:
                error = from_call(failure, self.target)
                if not may_repeat(error, repeatable):
                    raise error from failure
            time.sleep(next_wait(waits, error))

    def read(self, method: grpc.UnaryStreamMultiCallable[Q, A], request: Q, timeout: float) -> Iterator[A]:
        """Everything that an rpc streams; one that breaks off raises, since nothing says where to go on."""
        try:
            yield from method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise from_call(failure, self.target) from failure

    def _stream(self, method: grpc.UnaryStreamMultiCallable[Q, U], request: Q, timeout: float) -> Iterator[U]:
        end = time.monotonic() + timeout
        waits = self._connection.retries.waits()
        while True:
            call = method(request, timeout=max(0.001, end - time.monotonic()), metadata=self._metadata)
            error: ImagemeshError = broken_off(self.target)
            ended = False
            try:
                for update in call:
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
            time.sleep(min(next_wait(waits, error), max(0.0, end - time.monotonic())))
