"""Moderation's messages as domain values and back; pure. One table of rules for each request."""

from __future__ import annotations

from collections.abc import Callable

from imagemesh.events.v1 import review_pb2 as review_event_pb2
from imagemesh.moderation.v1 import moderation_service_pb2 as service_pb2
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

from mesh.errors import invalid
from mesh.events import Event
from mesh.ids import derived_id
from mesh.telemetry import TraceContext
from mesh.validation import Rule, check, length, matches, one_of
from services.moderation.verdicts import (
    Category,
    CategoryScore,
    Decision,
    Evidence,
    Image,
    Safety,
    SafetyLevel,
    Span,
    Text,
    TextKind,
    Verdict,
)

TEXT_CHARACTERS = 32_000
ALL_CHARACTERS = 128_000
INLINE_BYTES = 2 * 1024 * 1024
KINDS = {verdict_pb2.TextKind.Value(f"TEXT_KIND_{kind.name}"): kind for kind in TextKind}
CATEGORIES = {verdict_pb2.Category.Value(f"CATEGORY_{category.name}"): category for category in Category}


def words(low: int, high: int) -> Callable[[str], bool]:
    """Between `low` and `high` characters, and none that a database does not keep."""
    return lambda value: low <= len(value) <= high and "\0" not in value


USER_FIX = "at most 256 characters, none of them NUL"
_ID = matches(r"[A-Za-z0-9_.:-]{0,64}")
_ID_FIX = "at most 64 letters, digits and the signs _.:-"
COMMON_RULES = (
    Rule("job_id", _ID, _ID_FIX),
    Rule("user", words(0, 256), USER_FIX),
    Rule("safety.level", one_of(*map(int, SafetyLevel)), "a safety level of the contract"),
    Rule("safety.block_categories", lambda given: set(given) <= set(CATEGORIES), "categories of the contract only"),
)
PROMPT_RULES = (
    *COMMON_RULES,
    Rule("texts", length(1, 16), "1 to 16 texts"),
    Rule("texts", lambda given: any(text.text for text in given), "at least one text must not be empty"),
    Rule("texts", lambda given: sum(len(text.text) for text in given) <= ALL_CHARACTERS, "128,000 characters in all"),
)
TEXT_RULES = (
    Rule("kind", one_of(*KINDS), "the kind of the text is required"),
    Rule("text", length(0, TEXT_CHARACTERS), "at most 32,000 characters"),
)
IMAGE_RULES = (
    *COMMON_RULES,
    Rule("asset_id", matches(r"[A-Za-z0-9_.:-]{1,64}"), _ID_FIX),
    Rule("asset_bytes", length(0, INLINE_BYTES), "at most 2 MiB"),
    Rule("inline", length(1, INLINE_BYTES), "1 byte to 2 MiB; larger pictures go through storage"),
)
VERDICT_RULES = (Rule("verdict_id", matches(r"[A-Za-z0-9_.:-]{1,64}"), "required, " + _ID_FIX),)


def texts_of(request: service_pb2.ModeratePromptRequest) -> list[Text]:
    """The texts to judge; raises InvalidArgument with every mistake of the request."""
    check(request, PROMPT_RULES)
    for index, text in enumerate(request.texts):
        check(text, TEXT_RULES, prefix=f"texts[{index}].")
    return [Text(index, KINDS[text.kind], text.text) for index, text in enumerate(request.texts) if text.text]


def image_of(request: service_pb2.ModerateImageRequest, *, internal: bool = False) -> Image:
    """The picture to judge; raises InvalidArgument with every mistake of the request."""
    check(request, IMAGE_RULES)
    if request.WhichOneof("image") is None:
        raise invalid("image", "set asset_id or inline")
    if request.asset_bytes and not (internal and request.asset_id):
        raise invalid("asset_bytes", "leave it empty; it is for services of the mesh, beside asset_id")
    return Image(request.asset_id, request.inline or request.asset_bytes)


def safety_of(message: policy_pb2.Safety) -> Safety:
    """The caller's wish."""
    return Safety(SafetyLevel(message.level), frozenset(CATEGORIES[number] for number in message.block_categories))


def verdict_out(verdict: Verdict) -> verdict_pb2.Verdict:
    """The verdict as the contract has it."""
    subject, judgement = verdict.subject, verdict.judgement
    message = verdict_pb2.Verdict(
        verdict_id=verdict.verdict_id,
        tenant=subject.tenant,
        subject=verdict_pb2.SubjectKind.Value(f"SUBJECT_KIND_{subject.kind.name}"),
        decision=decision_out(judgement.decision),
        scores=[_score_out(score) for score in judgement.scores],
        evidence=[_evidence_out(evidence) for evidence in judgement.evidence],
        policy_id=verdict.policy_id,
        policy_version=verdict.policy_version,
        layer=judgement.layer,
        sha256=subject.sha256,
        not_evaluated=[category_out(category) for category in verdict.not_evaluated],
        job_id=subject.job_id,
        asset_id=subject.asset_id,
        length=subject.length,
    )
    message.create_time.FromMicroseconds(verdict.create_us)
    return message


def decision_out(decision: Decision) -> verdict_pb2.Decision.ValueType:
    """The contract's number of the decision."""
    return verdict_pb2.Decision.Value(f"DECISION_{decision.name}")


def category_out(category: Category) -> verdict_pb2.Category.ValueType:
    """The contract's number of the category."""
    return verdict_pb2.Category.Value(f"CATEGORY_{category.name}")


def _score_out(score: CategoryScore) -> verdict_pb2.CategoryScore:
    return verdict_pb2.CategoryScore(
        category=category_out(score.category), score=score.score, decision=decision_out(score.decision)
    )


def _evidence_out(evidence: Evidence) -> verdict_pb2.Evidence:
    finding = evidence.finding
    return verdict_pb2.Evidence(
        layer=finding.layer,
        category=category_out(finding.category),
        span=None if finding.span is None else _span_out(finding.span),
        entry=finding.entry,
        score=finding.score,
        threshold=evidence.threshold,
        model_version=finding.model_version,
        reading=finding.reading,
    )


def _span_out(span: Span) -> verdict_pb2.TextSpan:
    return verdict_pb2.TextSpan(
        text_index=span.text_index,
        kind=verdict_pb2.TextKind.Value(f"TEXT_KIND_{span.kind.name}"),
        start=span.start,
        end=span.end,
    )


def announcements(verdict: Verdict, place: TraceContext) -> list[Event]:
    """The events of a new verdict: one, when a person must decide."""
    if verdict.judgement.decision is not Decision.REVIEW:
        return []
    subject = verdict.subject
    review_id = derived_id("rev", verdict.verdict_id)
    message = review_event_pb2.ReviewRequested(
        tenant=subject.tenant,
        review_id=review_id,
        verdict_id=verdict.verdict_id,
        job_id=subject.job_id,
        asset_id=subject.asset_id,
    )
    message.request_time.FromMicroseconds(verdict.create_us)
    return [
        Event(
            id=derived_id("evt", review_id, "requested"),
            type="ReviewRequested",
            tenant=subject.tenant,
            subject_id=review_id,
            data=message.SerializeToString(),
            time_us=verdict.create_us,
            traceparent=place.traceparent,
            tracestate=place.tracestate,
        )
    ]
