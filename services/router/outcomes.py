"""From a job's pictures to its end: what it is called, why, and what the caller pays."""

from __future__ import annotations

from mesh.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MeshError,
    Unavailable,
)
from services.router import pictures as kept
from services.router.choices import GaveUp
from services.router.jobs import BlockedBy, ImageState, JobEnd, JobState, end_of
from services.router.leases import Ending
from services.router.pictures import Picture
from services.router.runs import Run

ORDER_ERRORS: dict[str, type[MeshError]] = {
    "PROVIDER_REFUSED": FailedPrecondition,
    "PROVIDER_BAD_REQUEST": InvalidArgument,
    "NO_CANDIDATE": FailedPrecondition,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "ATTEMPT_OUTCOME_UNKNOWN": Aborted,
}
"""The canonical error of a picture that nobody drew, by reason; the others are Unavailable."""


def give_up(run: Run, why: GaveUp) -> None:
    """Nobody will draw the missing pictures."""
    error = ORDER_ERRORS.get(why.reason, Unavailable)(why.message, reason=why.reason)
    state = ImageState.BLOCKED if why.refused else ImageState.FAILED
    for index in run.missing:
        run.pictures[index] = Picture(index).ended(state, error)


def ending_of(run: Run) -> Ending:
    """The job's end, as its pictures decide it; only published ones are paid for."""
    pictures = [run.pictures[index] for index in sorted(run.pictures)]
    end = end_of([picture.outcome for picture in pictures])
    published = [picture for picture in pictures if picture.state is ImageState.PUBLISHED]
    first = run.paid.get(published[0].attempt_id) if published else None
    whole = len(published) == run.spec.count
    return Ending(
        end.state,
        images=kept.dump(pictures),
        cost_micros=debit_micros(run),
        failure=_failure(end, pictures),
        blocked_by=end.blocked_by or "",
        cache_hit=run.cache_hit,
        model=first.model if first else "",
        provider=first.provider if first else "",
        image_count=len(published),
        cache_key=run.cache_key if whole and not run.cache_hit else "",
        verdict_id=_deciding_verdict(pictures),
    )


def debit_micros(run: Run) -> int:
    """The published share of every delivery's cost, each rounded up, within `max_cost` (hedging reserves more); what a
    cache served costs nothing."""
    counted = kept.by_attempt(run.pictures)
    shares = ((run.paid[attempt_id], count) for attempt_id, count in counted.items() if attempt_id in run.paid)
    debit = sum(-(-paid.cost_micros * count // paid.pictures) for paid, count in shares)
    return debit if run.options.max_cost is None else min(debit, run.options.max_cost.micros)


def _failure(end: JobEnd, pictures: list[Picture]) -> MeshError | None:
    if end.state is JobState.SUCCEEDED:
        return None
    if end.blocked_by is BlockedBy.IMAGE:
        return FailedPrecondition("moderation refused every picture", reason="MODERATION_BLOCKED")
    told = next((picture.error for picture in pictures if picture.error is not None), None)
    return told or Internal("the job ended without a picture", reason="INTERNAL")


def _deciding_verdict(pictures: list[Picture]) -> str:
    refused = (p.verdict for p in pictures if p.state is ImageState.BLOCKED and p.verdict is not None)
    return next((verdict.verdict_id for verdict in refused), "")
