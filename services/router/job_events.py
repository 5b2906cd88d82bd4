"""Facts about jobs as events for the outbox. Prompts never enter: only their hash and length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import Message
from google.rpc import status_pb2
from imagemesh.events.v1 import api_key_pb2, attempt_pb2, job_pb2
from imagemesh.router.v1 import job_pb2 as router_job_pb2

from mesh.events import Event
from mesh.ids import derived_id
from services.router.money import Money
from services.router.wire import money_to_proto, time_to_proto


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about and where it belongs. time_us: when it happened; traceparent: of the job."""

    tenant: str
    subject_id: str
    version: int
    time_us: int
    traceparent: str = ""
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class JobEnding:
    """The end of a job. images: serialised `Job` with only `images`; error: serialised google.rpc.Status."""

    state: str
    create_time: int
    model: str
    provider: str
    cost_micros: int
    cache_hit: bool
    images: bytes
    error: bytes
    blocked_by: str
    verdict_id: str


def queued_message(tenant: str, key_id: str, job: router_job_pb2.Job) -> bytes:
    """JobQueued for a job that is about to be stored; `queued` adds when that was."""
    spec = job.spec
    return job_pb2.JobQueued(
        tenant=tenant,
        job_id=job.job_id,
        version=1,
        user=job.options.user,
        key_id=key_id,
        lane=job.options.lane or router_job_pb2.LANE_INTERACTIVE,
        operation=spec.operation or router_job_pb2.OPERATION_TEXT_TO_IMAGE,
        model=spec.model,
        count=max(1, spec.count),
        prompt_sha256=hashlib.sha256(spec.prompt.encode()).hexdigest(),
        prompt_length=len(spec.prompt),
        quoted_cost=job.quoted_cost,
        parent_job_id=job.parent_job_id,
    ).SerializeToString()


def queued(subject: Subject, message: bytes) -> Event:
    """JobQueued. Serialised messages that follow each other are merged by whoever reads them."""
    moment = job_pb2.JobQueued(create_time=time_to_proto(subject.time_us)).SerializeToString()
    return _event("JobQueued", subject, message + moment)


def started(subject: Subject) -> Event:
    """JobStarted."""
    message = job_pb2.JobStarted(
        tenant=subject.tenant,
        job_id=subject.subject_id,
        version=subject.version,
        start_time=time_to_proto(subject.time_us),
    )
    return _event("JobStarted", subject, message)


def ended(subject: Subject, end: JobEnding) -> Event:
    """JobSucceeded, JobFailed, JobBlocked or JobCanceled."""
    message = _ENDINGS[end.state](end)
    message.tenant, message.job_id, message.version = subject.tenant, subject.subject_id, subject.version
    message.create_time.CopyFrom(time_to_proto(end.create_time))
    message.end_time.CopyFrom(time_to_proto(subject.time_us))
    return _event("Job" + end.state.capitalize(), subject, message)


def attempt_finished(subject: Subject, attempt: router_job_pb2.Attempt) -> Event:
    """AttemptFinished; `subject` is the job's. A second outcome of the same attempt has its own state and id."""
    message = attempt_pb2.AttemptFinished(
        tenant=subject.tenant,
        job_id=subject.subject_id,
        version=subject.version,
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        model=attempt.model,
        model_version=attempt.model_version,
        provider_request_id=attempt.provider_request_id,
        state=attempt.state,
        error=attempt.error if attempt.HasField("error") else None,
        cost=attempt.cost,
        start_time=attempt.start_time,
        end_time=attempt.end_time,
    )
    return _event("AttemptFinished", subject, message, attempt.attempt_id, attempt.state)


def key_revoked(subject: Subject) -> Event:
    """ApiKeyRevoked."""
    message = api_key_pb2.ApiKeyRevoked(
        tenant=subject.tenant, key_id=subject.subject_id, revoke_time=time_to_proto(subject.time_us)
    )
    return _event("ApiKeyRevoked", subject, message)


def _succeeded(end: JobEnding) -> job_pb2.JobSucceeded:
    images = router_job_pb2.Job.FromString(end.images).images
    published = [
        job_pb2.PublishedImage(
            index=image.index, asset_id=image.asset_id, sha256=image.sha256, width=image.width, height=image.height
        )
        for image in images
        if image.state == router_job_pb2.IMAGE_STATE_PUBLISHED
    ]
    return job_pb2.JobSucceeded(
        images=published,
        count=len(images),
        cost=money_to_proto(Money(end.cost_micros)),
        cache_hit=end.cache_hit,
        model=end.model,
        provider=end.provider,
    )


def _failed(end: JobEnding) -> job_pb2.JobFailed:
    return job_pb2.JobFailed(error=status_pb2.Status.FromString(end.error))


def _blocked(end: JobEnding) -> job_pb2.JobBlocked:
    return job_pb2.JobBlocked(
        blocked_by=router_job_pb2.BlockedBy.Value(f"BLOCKED_BY_{end.blocked_by or 'UNSPECIFIED'}"),
        verdict_id=end.verdict_id,
        error=status_pb2.Status.FromString(end.error),
    )


def _canceled(_end: JobEnding) -> job_pb2.JobCanceled:
    return job_pb2.JobCanceled()


_EndMessage = job_pb2.JobSucceeded | job_pb2.JobFailed | job_pb2.JobBlocked | job_pb2.JobCanceled
_ENDINGS: Mapping[str, Callable[[JobEnding], _EndMessage]] = {
    "SUCCEEDED": _succeeded,
    "FAILED": _failed,
    "BLOCKED": _blocked,
    "CANCELED": _canceled,
}


def _event(kind: str, subject: Subject, message: Message | bytes, *more: str | int) -> Event:
    """The id derives from the fact, so that the same fact told twice is one event."""
    return Event(
        id=derived_id("evt", kind, subject.subject_id, subject.version, *more),
        type=kind,
        tenant=subject.tenant,
        subject_id=subject.subject_id,
        data=message if isinstance(message, bytes) else message.SerializeToString(),
        version=subject.version,
        time_us=subject.time_us,
        traceparent=subject.traceparent,
        tracestate=subject.tracestate,
    )
