"""Stored jobs as messages. Columns that hold serialised messages are merged in, not copied field by field."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.router.v1 import job_pb2, job_service_pb2

from services.router import wire
from services.router.attempt_store import message as attempt_message
from services.router.leases import Attempt
from services.router.money import Money
from services.router.records import JobFilter, JobRecord

UNDRAWN = {
    "FAILED": job_pb2.IMAGE_STATE_FAILED,
    "BLOCKED": job_pb2.IMAGE_STATE_BLOCKED,
}
"""What the pictures of an ended job are that nobody has said anything about; in any other state they are PENDING."""


def full_job(record: JobRecord, attempts: Sequence[Attempt] = ()) -> job_pb2.Job:
    """Everything about the job, except for signed addresses and its place in the queue."""
    job = job_pb2.Job.FromString(record.images)
    job.spec.ParseFromString(record.spec)
    job.options.ParseFromString(record.options)
    _fill(job, record)
    add_undrawn(job, record.state)
    job.attempts.extend(attempt_message(attempt) for attempt in attempts)
    if record.error:
        job.error.ParseFromString(record.error)
    if record.progress_step or record.progress_steps:
        job.progress.step, job.progress.steps = record.progress_step, record.progress_steps
    return job


def basic_job(record: JobRecord) -> job_pb2.Job:
    """The job without prompts, provider options, attempts and signed addresses."""
    job = full_job(record)
    for field in ("prompt", "negative_prompt", "provider_options", "template"):
        job.spec.ClearField(field)
    for image in job.images:
        image.ClearField("revised_prompt")
    return job


def add_undrawn(job: job_pb2.Job, state: str) -> None:
    """Completes `images` to one entry for each picture asked for."""
    known = {image.index for image in job.images}
    undrawn = UNDRAWN.get(state, job_pb2.IMAGE_STATE_PENDING)
    for index in range(max(1, job.spec.count)):
        if index not in known:
            job.images.add(index=index, state=undrawn)
    if known:
        job.images.sort(key=lambda image: image.index)


def read_filter(request: job_service_pb2.ListJobsRequest, tenant: str) -> JobFilter:
    """The filter of a valid ListJobs."""
    wanted = request.filter
    return JobFilter(
        tenant=tenant,
        states=tuple(wire.enum_name(job_pb2.JobState, state) for state in wanted.states),
        user=wanted.user,
        labels=dict(sorted(wanted.labels.items())),  # page tokens are bound to the filter; a map has no order
        created_from=wire.time_from_proto(wanted.created_from) if wanted.HasField("created_from") else 0,
        created_until=wire.time_from_proto(wanted.created_until) if wanted.HasField("created_until") else 0,
    )


def _fill(job: job_pb2.Job, record: JobRecord) -> None:
    job.job_id, job.version = record.job_id, record.version
    job.state = wire.enum_number(job_pb2.JobState, record.state)
    job.waiting_for = wire.enum_number(job_pb2.WaitingFor, record.waiting_for)
    job.blocked_by = wire.enum_number(job_pb2.BlockedBy, record.blocked_by)
    job.cost.CopyFrom(wire.money_to_proto(Money(record.cost_micros)))
    job.quoted_cost.CopyFrom(wire.money_to_proto(Money(record.quoted_micros)))
    job.cache_hit, job.seed_drawn = record.cache_hit, record.seed_drawn
    job.cancel_requested = record.cancel_requested
    job.trace_id = trace_id(record.traceparent)
    job.parent_job_id = record.parent_job_id
    for field, time_us in (
        (job.create_time, record.create_time),
        (job.start_time, record.start_time),
        (job.end_time, record.end_time),
    ):
        _set_time(field, time_us)


def trace_id(traceparent: str) -> str:
    """The 32 hex characters of the trace; empty when there is none."""
    return traceparent.split("-")[1] if traceparent else ""


def _set_time(field: Timestamp, time_us: int | None) -> None:
    if time_us is not None:
        field.seconds, field.nanos = time_us // 1_000_000, time_us % 1_000_000 * 1000
