"""A router in one process, small and strict: it speaks the real contract, refuses what a real one refuses, and counts.

What becomes of a job is told by its prompt (see `ENDINGS`); every call must carry the key and a deadline.
"""

from __future__ import annotations

import hashlib
import http.server
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from google.type import money_pb2
from grpc_status import rpc_status
from imagemesh.moderation.v1 import review_service_pb2_grpc
from imagemesh.router.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    catalog_pb2,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    usage_pb2,
    usage_service_pb2,
    usage_service_pb2_grpc,
)

KEY = "im_test-key"
PAGE = 2


def png(color: int) -> bytes:
    """A 2x2 picture of one grey."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, color, color] * 2))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Refusal:
    """How a call or job fails: a code's name, the contract's reason, the text."""

    code: str
    reason: str
    text: str
    violation: tuple[str, str] | None = None
    retry_after: int = 0

    def status(self) -> status_pb2.Status:
        """As google.rpc.Status."""
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code), message=self.text)
        details: list[Message] = [error_details_pb2.ErrorInfo(reason=self.reason, domain="imagemesh")]
        if self.violation:
            name, text = self.violation
            wrong = error_details_pb2.BadRequest.FieldViolation(field=name, description=text)
            details.append(error_details_pb2.BadRequest(field_violations=[wrong]))
        if self.retry_after:
            delay = duration_pb2.Duration(seconds=self.retry_after)
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status


JOB_ENDINGS = {
    "blocked": (job_pb2.JOB_STATE_BLOCKED, Refusal("PERMISSION_DENIED", "MODERATION_BLOCKED", "moderation refused it")),
    "failed": (job_pb2.JOB_STATE_FAILED, Refusal("UNAVAILABLE", "ALL_CANDIDATES_FAILED", "every candidate failed")),
    "late": (job_pb2.JOB_STATE_FAILED, Refusal("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "the deadline passed")),
    "unknown": (job_pb2.JOB_STATE_FAILED, Refusal("UNKNOWN", "ATTEMPT_OUTCOME_UNKNOWN", "nobody knows")),
}
NOT_YET = Refusal("UNIMPLEMENTED", "NOT_IMPLEMENTED", "ListBudgets belongs to a later version of the mesh")


@dataclass
class FakeMesh:
    """The state of the fake. refusals: by prompt, for CreateJob and GenerateImage. outages: calls still to refuse."""

    refusals: dict[str, Refusal] = field(default_factory=dict)
    outages: int = 0
    drops: int = 0
    jobs: dict[str, job_pb2.Job] = field(default_factory=dict)
    request_ids: list[str] = field(default_factory=list)
    bodies: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    traceparents: list[str] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    pictures: dict[str, bytes] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    web: str = ""
    target: str = ""

    def submit(self, request: Any, context: grpc.ServicerContext) -> job_pb2.Job:
        """One job per request id; the same id with another body is refused."""
        self.request_ids.append(request.request_id)
        if self.outages > 0:
            self.outages -= 1
            refuse(context, Refusal("UNAVAILABLE", "DRAINING", "shutting down"))
        spec: job_pb2.GenerationSpec = request.spec
        if not request.request_id or not request.HasField("spec"):
            refuse(context, Refusal("INVALID_ARGUMENT", "INVALID_FIELD", "request_id and spec are required"))
        if not spec.prompt:
            wrong = ("spec.prompt", "must have 1 to 32,000 characters")
            refuse(context, Refusal("INVALID_ARGUMENT", "INVALID_FIELD", "the request is not valid", wrong))
        if spec.prompt in self.refusals:
            refuse(context, self.refusals[spec.prompt])
        body = spec.SerializeToString(deterministic=True) + request.options.SerializeToString(deterministic=True)
        known = self.bodies.setdefault(request.request_id, (body, f"job_{len(self.jobs) + 1:026d}"))
        if known[0] != body:
            refuse(context, Refusal("ALREADY_EXISTS", "REQUEST_ID_REUSED", "the request id came with another body"))
        with self.changed:
            return self.jobs.setdefault(known[1], self.new_job(known[1], spec))

    def new_job(self, job_id: str, spec: job_pb2.GenerationSpec) -> job_pb2.Job:
        """Queued, with one entry per picture."""
        job = job_pb2.Job(job_id=job_id, version=1, state=job_pb2.JOB_STATE_QUEUED, spec=spec, trace_id="ab" * 16)
        job.create_time.GetCurrentTime()
        for index in range(spec.count or 1):
            job.images.add(index=index, state=job_pb2.IMAGE_STATE_PENDING)
        return job

    def updates(self, job_id: str) -> Iterator[job_pb2.Job | job_pb2.JobProgress]:
        """The job now, its progress, its end as the prompt says; `hang` waits for a cancel, `borderline` for review."""
        yield self.copy(job_id)
        if self.jobs[job_id].state == job_pb2.JOB_STATE_QUEUED:
            for step in (1, 2):
                yield job_pb2.JobProgress(step=step, steps=2)
            if self.jobs[job_id].spec.prompt == "borderline":
                parked = self.copy(job_id)
                parked.waiting_for = job_pb2.WAITING_FOR_REVIEW
                yield from (parked, parked)
            with self.changed:
                while self.jobs[job_id].spec.prompt == "hang" and self.jobs[job_id].state == job_pb2.JOB_STATE_QUEUED:
                    self.changed.wait(0.05)
                self.end(self.jobs[job_id])
            yield self.copy(job_id)

    def end(self, job: job_pb2.Job) -> None:
        """Ends the job, once."""
        if job.state != job_pb2.JOB_STATE_QUEUED:
            return
        job.version += 1
        prompt = job.spec.prompt
        if prompt in JOB_ENDINGS:
            job.state, refusal = JOB_ENDINGS[prompt]
            job.error.CopyFrom(refusal.status())
            return
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cache_hit = prompt == "cached"
        amount = 0 if job.cache_hit else 2_500_000
        job.cost.CopyFrom(money_pb2.Money(currency_code="USD", nanos=amount))
        for image in job.images:
            self.publish(job, image)
        if prompt == "half":
            job.images[0].state = job_pb2.IMAGE_STATE_BLOCKED

    def publish(self, job: job_pb2.Job, image: job_pb2.JobImage) -> None:
        """Puts the picture on the web port."""
        data = png(image.index * 16)
        name = f"{job.job_id}-{image.index}"
        self.pictures[name] = data if job.spec.prompt != "corrupt" else data + b"!"
        image.state = job_pb2.IMAGE_STATE_PUBLISHED
        image.asset_id, image.format, image.width, image.height = name, "png", 2, 2
        image.sha256, image.seed, image.bytes = hashlib.sha256(data).hexdigest(), 7 + image.index, len(data)
        image.url = f"{self.web}/a/{name}" if job.spec.prompt != "no address" else ""

    def copy(self, job_id: str) -> job_pb2.Job:
        """As it stands now."""
        with self.changed:
            job = job_pb2.Job()
            job.CopyFrom(self.jobs[job_id])
            return job


def refuse(context: grpc.ServicerContext, refusal: Refusal) -> None:
    """Ends the call; never returns."""
    context.abort_with_status(rpc_status.to_status(refusal.status()))


class Strict(grpc.ServerInterceptor):
    """Every call has the key and a deadline, and no field that the contract does not know."""

    def __init__(self, mesh: FakeMesh) -> None:
        self._mesh = mesh

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Checks the key before the handler is looked up."""
        sent = dict(details.invocation_metadata)
        if "traceparent" in sent:
            self._mesh.traceparents.append(str(sent["traceparent"]))
        if "authorization" not in sent:
            return _refusing(Refusal("UNAUTHENTICATED", "KEY_MISSING", "send the API key"))
        if sent["authorization"] != f"Bearer {KEY}":
            return _refusing(Refusal("UNAUTHENTICATED", "KEY_INVALID", "the API key is not valid"))
        return continuation(details)


def _refusing(refusal: Refusal) -> grpc.RpcMethodHandler[Any, Any]:
    def call(_: Any, context: grpc.ServicerContext) -> Any:
        refuse(context, refusal)

    return grpc.unary_unary_rpc_method_handler(call)


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    """JobService over the fake."""

    def __init__(self, mesh: FakeMesh) -> None:
        self._mesh = mesh

    def CreateJob(self, request: Any, context: Any) -> Any:
        return job_service_pb2.CreateJobResponse(job=self._mesh.submit(request, context))

    def GenerateImage(self, request: Any, context: Any) -> Any:
        assert context.time_remaining() is not None
        job = self._mesh.submit(request, context)
        for update in self._mesh.updates(job.job_id):
            if self._mesh.drops > 0 and isinstance(update, job_pb2.JobProgress):
                self._mesh.drops -= 1
                return
            yield job_service_pb2.GenerateImageResponse(**_as_update(update))

    def GetJob(self, request: Any, context: Any) -> Any:
        job = self._known(request.job_id, context)
        if job.spec.prompt == "no address":
            for image in job.images:
                image.url = f"{self._mesh.web}/a/{image.asset_id}"
        return job_service_pb2.GetJobResponse(job=job)

    def WatchJob(self, request: Any, context: Any) -> Any:
        self._known(request.job_id, context)
        for update in self._mesh.updates(request.job_id):
            yield job_service_pb2.WatchJobResponse(**_as_update(update))

    def ListJobs(self, request: Any, context: Any) -> Any:
        wanted = [job for job in reversed(self._mesh.jobs.values()) if _fits(job, request.filter)]
        first = int(request.page_token or 0)
        size = min(request.page_size or PAGE, PAGE)
        more = str(first + size) if len(wanted) > first + size else ""
        return job_service_pb2.ListJobsResponse(jobs=wanted[first : first + size], next_page_token=more)

    def CancelJob(self, request: Any, context: Any) -> Any:
        self._known(request.job_id, context)
        with self._mesh.changed:
            job = self._mesh.jobs[request.job_id]
            if job.state not in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_CANCELED):
                refuse(context, Refusal("FAILED_PRECONDITION", "NOT_CANCELABLE", "the job has ended"))
            job.state, job.version = job_pb2.JOB_STATE_CANCELED, job.version + 1
            job.error.CopyFrom(Refusal("CANCELLED", "CANCELED", "canceled by its caller").status())
            self._mesh.canceled.append(job.job_id)
            self._mesh.changed.notify_all()
        return job_service_pb2.CancelJobResponse(job=self._mesh.copy(request.job_id))

    def _known(self, job_id: str, context: Any) -> job_pb2.Job:
        if job_id not in self._mesh.jobs:
            refuse(context, Refusal("NOT_FOUND", "JOB_NOT_FOUND", f"no job {job_id}"))
        return self._mesh.copy(job_id)


def _as_update(update: job_pb2.Job | job_pb2.JobProgress) -> dict[str, Any]:
    return {"job": update} if isinstance(update, job_pb2.Job) else {"progress": update}


def _fits(job: job_pb2.Job, wanted: job_service_pb2.JobFilter) -> bool:
    return not wanted.states or job.state in wanted.states


class Catalog(catalog_service_pb2_grpc.CatalogServiceServicer):
    """One model, one provider, one offer."""

    def ListModels(self, request: Any, context: Any) -> Any:
        price = catalog_pb2.Price(
            unit=catalog_pb2.PRICE_UNIT_IMAGE, currency="USD", entries=[catalog_pb2.PriceEntry(amount="0.0025")]
        )
        route = catalog_pb2.ModelRoute(provider="imagemesh", price=price)
        route.capabilities.default_size.width = route.capabilities.default_size.height = 64
        route.sunset_time.FromJsonString("2027-03-15T00:00:00Z")
        new = catalog_pb2.ModelVersion(version="v2", canary_percent=5)
        model = catalog_pb2.Model(
            model_id="demo",
            available=True,
            strengths=["speed"],
            routes=[route],
            versions=["v2", "v1"],
            default_version="v1",
            version_details=[new],
            license="MIT",
            commercial_use="yes",
        )
        return catalog_service_pb2.ListModelsResponse(models=[model])

    def ListProviders(self, request: Any, context: Any) -> Any:
        health = catalog_pb2.ProviderHealth(model="demo", breaker=catalog_pb2.BREAKER_STATE_CLOSED, calls=4)
        health.p50.FromMilliseconds(1500)
        provider = catalog_pb2.Provider(
            provider_id="imagemesh",
            state=catalog_pb2.PROVIDER_STATE_ENABLED,
            kind="imagemesh",
            health=[health],
            accounts=[catalog_pb2.ProviderAccount(name="main", region="eu", configured=True, dedicated="2 units")],
            data_terms=catalog_pb2.DataTerms(residency="eu", training=True),
            passthrough=[catalog_pb2.Passthrough(pattern="owner/*")],
        )
        provider.data_terms.retention.FromSeconds(86_400)
        return catalog_service_pb2.ListProvidersResponse(providers=[provider])

    def CheckProvider(self, request: Any, context: Any) -> Any:
        passed = catalog_service_pb2.CHECK_OUTCOME_PASSED
        outcome = catalog_service_pb2.CHECK_OUTCOME_FAILED if request.provider_id == "keyless" else passed
        checked = catalog_service_pb2.AccountCheck(account="main", outcome=outcome, told="12.50 credits left")
        return catalog_service_pb2.CheckProviderResponse(accounts=[checked])

    def Quote(self, request: Any, context: Any) -> Any:
        if request.options.max_cost.nanos == 1:
            refuse(context, Refusal("FAILED_PRECONDITION", "MAX_COST_EXCEEDED", "every candidate costs more"))
        price = catalog_pb2.Price(unit=catalog_pb2.PRICE_UNIT_STEP, source="a list", date="2026-11-20")
        offer = catalog_pb2.Offer(
            provider="imagemesh",
            model="demo",
            available=True,
            explanation="1 image x 0.0025",
            price=price,
            dropped=request.options.routing.may_drop,
        )
        offer.worst_case.CopyFrom(money_pb2.Money(currency_code="USD", nanos=2_500_000))
        return catalog_service_pb2.QuoteResponse(offers=[offer])


class Usage(usage_service_pb2_grpc.UsageServiceServicer):
    """One row; no budgets yet."""

    def GetUsage(self, request: Any, context: Any) -> Any:
        debit = money_pb2.Money(currency_code="USD", units=1, nanos=500_000_000)
        group = "demo" if request.group_by == usage_pb2.USAGE_GROUP_MODEL else ""
        row = usage_pb2.UsageRow(group=group, jobs=3, images=4, debit=debit)
        return usage_service_pb2.GetUsageResponse(rows=[row])

    def GetLimits(self, request: Any, context: Any) -> Any:
        cap = money_pb2.Money(currency_code="USD", units=10)
        limit = usage_pb2.Limit(name="queued_jobs", limit=100, used=2)
        return usage_service_pb2.GetLimitsResponse(spend_cap=cap, limits=[limit])

    def ListBudgets(self, request: Any, context: Any) -> Any:
        refuse(context, NOT_YET)


class Keys(api_key_service_pb2_grpc.ApiKeyServiceServicer):
    """Keys in a dict."""

    def __init__(self) -> None:
        self._keys: dict[str, api_key_pb2.ApiKey] = {}

    def CreateApiKey(self, request: Any, context: Any) -> Any:
        key = api_key_pb2.ApiKey(
            key_id=f"key_{len(self._keys)}", tenant=request.tenant, roles=request.roles, models=request.models
        )
        key.state, key.display_name = api_key_pb2.API_KEY_STATE_ACTIVE, request.display_name
        if request.HasField("spend_cap"):
            key.spend_cap.CopyFrom(request.spend_cap)
        self._keys[key.key_id] = key
        return api_key_service_pb2.CreateApiKeyResponse(api_key=key, secret="im_fresh")

    def ListApiKeys(self, request: Any, context: Any) -> Any:
        return api_key_service_pb2.ListApiKeysResponse(api_keys=self._keys.values())

    def RotateApiKey(self, request: Any, context: Any) -> Any:
        if request.key_id not in self._keys:
            refuse(context, Refusal("NOT_FOUND", "KEY_NOT_FOUND", f"no key {request.key_id}"))
        return api_key_service_pb2.RotateApiKeyResponse(api_key=self._keys[request.key_id], secret="im_rotated")

    def RevokeApiKey(self, request: Any, context: Any) -> Any:
        self._keys[request.key_id].state = api_key_pb2.API_KEY_STATE_REVOKED
        return api_key_service_pb2.RevokeApiKeyResponse(api_key=self._keys[request.key_id])


class Reviews(review_service_pb2_grpc.ReviewServiceServicer):
    """For later."""

    def ListReviews(self, request: Any, context: Any) -> Any:
        refuse(context, NOT_YET)


def serve(mesh: FakeMesh) -> Callable[[], None]:
    """Starts gRPC and HTTP on free ports of loopback; call what it returns to stop both.

    Rpcs that a servicer leaves out are UNIMPLEMENTED, hence the ignored complaints.
    """
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[Strict(mesh)], options=[("grpc.so_reuseport", 0)])
    for add, servicer in (
        (job_service_pb2_grpc.add_JobServiceServicer_to_server, Jobs(mesh)),  # type: ignore[abstract]
        (catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server, Catalog()),  # type: ignore[abstract]
        (usage_service_pb2_grpc.add_UsageServiceServicer_to_server, Usage()),  # type: ignore[abstract]
        (api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server, Keys()),  # type: ignore[abstract]
        (review_service_pb2_grpc.add_ReviewServiceServicer_to_server, Reviews()),  # type: ignore[abstract]
    ):
        add(servicer, server)  # type: ignore[arg-type]
    mesh.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _pictures(mesh))
    mesh.web = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    def stop() -> None:
        server.stop(0).wait()
        web.shutdown()
        web.server_close()
        thread.join()

    return stop


def _pictures(mesh: FakeMesh) -> type[http.server.BaseHTTPRequestHandler]:
    class Pictures(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = mesh.pictures.get(self.path.removeprefix("/a/"))
            self.send_response(200 if data else 404)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: Any) -> None:
            return

    return Pictures


def wait_for(true: Callable[[], bool], seconds: float = 5.0) -> None:
    """Until it holds; what is waited for happens in another thread or process."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
