"""The events about what people decide; pure. Ids derive from the fact, so that what is told twice is one event."""

from __future__ import annotations

from google.protobuf.message import Message
from imagemesh.events.v1 import appeal_pb2, review_pb2

from mesh.events import Event
from mesh.ids import derived_id
from mesh.telemetry import TraceContext
from services.moderation.appeal_store import GRANTED, Appeal
from services.moderation.reviews import Review, State
from services.moderation.verdicts import Decision, Subject

DECIDED = "review-decided."  # the signal to the router; the job's id follows


def review_requested(review: Review, place: TraceContext) -> Event:
    """A report or an appeal waits for a person."""
    message = review_pb2.ReviewRequested(
        tenant=review.tenant,
        review_id=review.review_id,
        verdict_id=review.verdict_id,
        job_id=review.job_id,
        asset_id=review.asset_id,
    )
    message.request_time.FromMicroseconds(review.create_us)
    return _event(message, (review.tenant, review.review_id, review.create_us), "requested", place)


def review_decided(review: Review, place: TraceContext) -> Event:
    """A person decided, or nobody did in time."""
    message = review_pb2.ReviewDecided(
        tenant=review.tenant,
        review_id=review.review_id,
        verdict_id=review.outcome_id,
        job_id=review.job_id,
        asset_id=review.asset_id,
        outcome=_outcome(review),
    )
    message.decide_time.FromMicroseconds(review.decide_us)
    return _event(message, (review.tenant, review.review_id, review.decide_us), "decided", place)


def appeal_decided(appeal: Appeal, subject: Subject, place: TraceContext) -> Event:
    """A person granted or denied an appeal."""
    overturned = appeal.state == GRANTED
    message = appeal_pb2.AppealDecided(
        tenant=appeal.tenant,
        appeal_id=appeal.appeal_id,
        verdict_id=appeal.verdict_id,
        job_id=subject.job_id,
        asset_id=subject.asset_id,
        outcome=appeal_pb2.APPEAL_OUTCOME_OVERTURNED if overturned else appeal_pb2.APPEAL_OUTCOME_UPHELD,
    )
    message.decide_time.FromMicroseconds(appeal.decide_us)
    return _event(message, (appeal.tenant, appeal.appeal_id, appeal.decide_us), "decided", place)


def _outcome(review: Review) -> review_pb2.ReviewOutcome.ValueType:
    if review.state is State.EXPIRED:
        return review_pb2.REVIEW_OUTCOME_EXPIRED
    allowed = review.decision is Decision.ALLOW
    return review_pb2.REVIEW_OUTCOME_ALLOWED if allowed else review_pb2.REVIEW_OUTCOME_BLOCKED


def _event(message: Message, about: tuple[str, str, int], fact: str, place: TraceContext) -> Event:
    tenant, subject_id, time_us = about
    return Event(
        id=derived_id("evt", subject_id, fact),
        type=message.DESCRIPTOR.name,
        tenant=tenant,
        subject_id=subject_id,
        data=message.SerializeToString(),
        time_us=time_us,
        traceparent=place.traceparent,
        tracestate=place.tracestate,
    )
