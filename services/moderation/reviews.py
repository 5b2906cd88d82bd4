"""Reviews as values: what a person must decide, how urgent it is, and what follows for the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from hashlib import sha256

from mesh.ids import derived_id
from services.moderation.verdicts import Category, CategoryScore, Decision, Judgement, Verdict

BY_PERSON = "review"  # the layer of what a person decided
BY_TIME = "review-expired"  # the layer of what nobody decided in time
CLAIM_S = 30 * 60  # how long one reviewer has an item
DUE_S = 23 * 3600  # within the day that the router waits to deliver a picture
NOTE_CHARACTERS = 4_000


class Cause(StrEnum):
    """Why a review was opened."""

    VERDICT = "VERDICT"
    REPORT = "REPORT"
    APPEAL = "APPEAL"


class State(StrEnum):
    """Where a review stands. An open one is claimed while its claim lasts."""

    OPEN = "OPEN"
    DECIDED = "DECIDED"
    EXPIRED = "EXPIRED"


class Severity(IntEnum):
    """How urgent; numbered as in the contract."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


SEVERITIES: Mapping[Category, Severity] = {
    Category.SEXUAL_MINORS: Severity.CRITICAL,
    Category.SELF_HARM: Severity.CRITICAL,
    Category.WEAPONS: Severity.HIGH,
    Category.VIOLENCE: Severity.HIGH,
    Category.GORE: Severity.HIGH,
    Category.HATE: Severity.HIGH,
    Category.ILLEGAL: Severity.HIGH,
    Category.SEXUAL: Severity.MEDIUM,
    Category.HARASSMENT: Severity.MEDIUM,
    Category.DEFAMATION: Severity.MEDIUM,
    Category.PII: Severity.MEDIUM,
    Category.PUBLIC_FIGURE: Severity.LOW,
    Category.BRAND: Severity.LOW,
    Category.ARTIST_STYLE: Severity.LOW,
}


@dataclass(frozen=True, slots=True)
class Review:
    """One item of the queue. Times are microseconds since 1970-01-01 UTC; `claim_us` in the past: nobody has it.

    about: the report or appeal. text: of what is judged, while it is open. outcome_id: the verdict that then stands.
    """

    review_id: str
    topic: str
    tenant: str
    cause: Cause
    severity: Severity
    categories: tuple[Category, ...]
    verdict_id: str
    asset_id: str
    job_id: str
    about: str = ""
    end_user: str = ""
    text: str = ""
    state: State = State.OPEN
    reviewer: str = ""
    claim_us: int = 0
    decision: Decision | None = None
    reason: Category | None = None
    note: str = ""
    outcome_id: str = ""
    revision: int = 1
    create_us: int = 0
    due_us: int = 0
    decide_us: int = 0

    @property
    def etag(self) -> str:
        """Changes with every change of the review."""
        return sha256(f"{self.review_id}:{self.revision}".encode()).hexdigest()[:16]

    def claimed(self, now_us: int) -> bool:
        """Whether a reviewer has it now."""
        return self.state is State.OPEN and self.claim_us > now_us


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a reviewer decides. reason: the category it is blocked for; None with ALLOW."""

    decision: Decision
    reason: Category | None = None
    note: str = ""


def severity_of(categories: Iterable[Category]) -> Severity:
    """The highest severity of the categories; MEDIUM when there is none, as when a layer could not judge."""
    return max((SEVERITIES[category] for category in categories), default=Severity.MEDIUM)


def severity_of_verdict(verdict: Verdict) -> Severity:
    """That of what was seen: a text that nobody could judge, in another language say, is not the worst of all."""
    scores = verdict.judgement.scores
    return severity_of(score.category for score in scores if score.decision >= Decision.REVIEW and score.score > 0)


def minded(verdict: Verdict) -> tuple[Category, ...]:
    """The categories because of which the verdict was not simply allowed."""
    return tuple(score.category for score in verdict.judgement.scores if score.decision >= Decision.REVIEW)


def topic_of(verdict: Verdict) -> str:
    """What a decision about the verdict holds for: this content, asset and wish, in this job under any policy, and
    outside a job under this version of the policy."""
    subject = verdict.subject
    place = subject.job_id or f"{verdict.policy_id}@{verdict.policy_version}"
    content = (subject.tenant, subject.kind.value, subject.sha256, subject.asset_id)
    return derived_id("top", *content, place, verdict.safety.key)


def of_verdict(verdict: Verdict, text: str) -> Review:
    """The review that a REVIEW verdict opens."""
    subject = verdict.subject
    return Review(
        review_id=derived_id("rev", verdict.verdict_id),
        topic=topic_of(verdict),
        tenant=subject.tenant,
        cause=Cause.VERDICT,
        severity=severity_of_verdict(verdict),
        categories=minded(verdict),
        verdict_id=verdict.verdict_id,
        asset_id=subject.asset_id,
        job_id=subject.job_id,
        end_user=subject.user,
        text=text,
    )


def decided(verdict: Verdict, ruling: Ruling, by: str, layer: str = BY_PERSON) -> Verdict:
    """The verdict that stands after a decision `by` (an id) about the first one; findings stay as they are."""
    scores = verdict.judgement.scores
    if ruling.decision is Decision.BLOCK and ruling.reason is not None:
        scores = _blocked_for(scores, ruling.reason)
    judgement = Judgement(ruling.decision, scores, verdict.judgement.evidence, layer)
    verdict_id = derived_id("vrd", by, ruling.decision.name)
    return replace(verdict, verdict_id=verdict_id, judgement=judgement)


def _blocked_for(scores: tuple[CategoryScore, ...], reason: Category) -> tuple[CategoryScore, ...]:
    """The scores with the reviewer's category first, blocking."""
    known = next((score.score for score in scores if score.category is reason), 1.0)
    rest = tuple(score for score in scores if score.category is not reason)
    return (CategoryScore(reason, known, Decision.BLOCK), *rest)
