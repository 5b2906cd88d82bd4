"""What becomes of a request: states of jobs, attempts and pictures, and the rules between them. Pure values.

QUEUED → RUNNING → SUCCEEDED | FAILED | BLOCKED | CANCELED
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    BLOCKED = "BLOCKED"
    CANCELED = "CANCELED"

    @property
    def terminal(self) -> bool:
        """True once nothing changes any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class ImageState(StrEnum):
    """Where one picture stands."""

    PENDING = "PENDING"
    QUARANTINED = "QUARANTINED"
    PUBLISHED = "PUBLISHED"
    BLOCKED = "BLOCKED"
    FAILED = "FAILED"


class AttemptState(StrEnum):
    """How one call to a provider ended."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    CANCELED = "CANCELED"


class BlockedBy(StrEnum):
    """What was refused, strictest first: text is judged before inputs, those before pictures."""

    PROMPT = "PROMPT"
    INPUT = "INPUT"
    IMAGE = "IMAGE"
    PROVIDER = "PROVIDER"


class WaitingFor(StrEnum):
    """What a RUNNING job without a worker waits for."""

    MODERATION = "MODERATION"
    REVIEW = "REVIEW"
    STORAGE = "STORAGE"
    PROVIDER = "PROVIDER"
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ends, as its pictures decide it."""

    state: JobState
    blocked_by: BlockedBy | None = None


@dataclass(frozen=True, slots=True)
class PictureOutcome:
    """One picture's final state; `refused_by` says who refused a BLOCKED one."""

    state: ImageState
    refused_by: BlockedBy = BlockedBy.IMAGE


def end_of(pictures: Sequence[PictureOutcome]) -> JobEnd:
    """SUCCEEDED with at least one published picture; else BLOCKED if any was refused; else FAILED."""
    if any(picture.state is ImageState.PUBLISHED for picture in pictures):
        return JobEnd(JobState.SUCCEEDED)
    refusals = [picture.refused_by for picture in pictures if picture.state is ImageState.BLOCKED]
    if refusals:
        return JobEnd(JobState.BLOCKED, min(refusals, key=list(BlockedBy).index))
    return JobEnd(JobState.FAILED)


def missing_indices(count: int, delivered: Sequence[int]) -> tuple[int, ...]:
    """The pictures that are still owed; a fallback orders only these."""
    have = frozenset(delivered)
    return tuple(index for index in range(count) if index not in have)
