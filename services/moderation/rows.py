"""Domain values as table rows and back; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.moderation.audit import AuditEntry
from services.moderation.perceptual import BlockedHash
from services.moderation.verdicts import (
    Category,
    CategoryScore,
    Decision,
    Evidence,
    Finding,
    Judgement,
    Safety,
    Signs,
    Span,
    Subject,
    SubjectKind,
    TextKind,
    Verdict,
)

Row = dict[str, Any]

ACTIONS: Mapping[SubjectKind, str] = {SubjectKind.PROMPT: "PROMPT_JUDGED", SubjectKind.IMAGE: "IMAGE_JUDGED"}


@dataclass(frozen=True)
class AuditNote:
    """What the audit keeps beside the verdict.

    actor: the key's id or `mesh`. trace_id: 32 hex digits or empty. text: what the policy keeps of the texts.
    """

    actor: str
    trace_id: str
    policy_etag: str
    text: str = ""


def verdict_row(verdict: Verdict) -> Row:
    """The row of `verdicts`."""
    judgement = verdict.judgement
    return {
        **_shared(verdict),
        "subject": verdict.subject.kind.value,
        "layer": judgement.layer,
        "evidence": [_evidence_out(evidence) for evidence in judgement.evidence],
        "not_evaluated": [category.value for category in verdict.not_evaluated],
        "safety": verdict.safety.key,
        "sexual": verdict.signs.sexual,
        "minor": verdict.signs.minor,
    }


def audit_entry(verdict: Verdict, note: AuditNote) -> AuditEntry:
    """What the audit keeps of the verdict."""
    subject, judgement = verdict.subject, verdict.judgement
    versions = {f"{e.finding.layer}@{e.finding.model_version}" for e in judgement.evidence}
    return AuditEntry(
        action=ACTIONS[subject.kind],
        tenant=subject.tenant,
        actor=note.actor,
        user=subject.user,
        trace_id=note.trace_id,
        verdict_id=verdict.verdict_id,
        decision=judgement.decision.name,
        scores=tuple((s.category.value, s.score, s.decision.name) for s in judgement.scores),
        policy_id=verdict.policy_id,
        policy_version=verdict.policy_version,
        policy_etag=note.policy_etag,
        model_versions=tuple(sorted(versions)),
        sha256=subject.sha256,
        length=subject.length,
        text=note.text,
        job_id=subject.job_id,
        asset_id=subject.asset_id,
    )


def _shared(verdict: Verdict) -> Row:
    subject = verdict.subject
    return {
        "verdict_id": verdict.verdict_id,
        "tenant": subject.tenant,
        "decision": verdict.judgement.decision.name,
        "scores": scores_out(verdict.judgement),
        "policy_id": verdict.policy_id,
        "policy_version": verdict.policy_version,
        "sha256": subject.sha256,
        "length": subject.length,
        "job_id": subject.job_id,
        "asset_id": subject.asset_id,
        "end_user": subject.user,
        "create_us": verdict.create_us,
    }


def scores_out(judgement: Judgement) -> list[list[Any]]:
    """The scores as a column holds them: category, score, decision."""
    return [[score.category.value, score.score, score.decision.name] for score in judgement.scores]


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """The verdict in a row of `verdicts`."""
    return Verdict(
        row["verdict_id"],
        _subject(row),
        _judgement(row),
        row["policy_id"],
        row["policy_version"],
        tuple(Category(name) for name in row["not_evaluated"]),
        row["create_us"],
        Safety.of(row["safety"]),
        Signs(row["sexual"], row["minor"]),
    )


def _subject(row: Mapping[str, Any]) -> Subject:
    return Subject(
        SubjectKind(row["subject"]),
        row["tenant"],
        row["sha256"],
        row["length"],
        row["job_id"],
        row["asset_id"],
        row["end_user"],
    )


def _judgement(row: Mapping[str, Any]) -> Judgement:
    scores = tuple(CategoryScore(Category(name), score, Decision[tier]) for name, score, tier in row["scores"])
    evidence = tuple(_evidence_in(stored) for stored in row["evidence"])
    return Judgement(Decision[row["decision"]], scores, evidence, row["layer"])


def _evidence_out(evidence: Evidence) -> Row:
    return {**asdict(evidence.finding), "threshold": evidence.threshold}


def _evidence_in(stored: Mapping[str, Any]) -> Evidence:
    rest = dict(stored)
    threshold = rest.pop("threshold")
    span = rest.pop("span")
    finding = Finding(
        **{**rest, "category": Category(rest["category"]), "at_least": Decision(rest["at_least"])},
        span=None if span is None else Span(**{**span, "kind": TextKind(span["kind"])}),
    )
    return Evidence(finding, threshold)


def blocked_of(row: Mapping[str, Any]) -> BlockedHash:
    """The entry in a row of `blocked_hashes`."""
    phash = int(row["phash"], 16) if row["phash"] else None
    return BlockedHash(row["hash_id"], Category(row["category"]), phash, row["sha256"])


def blocked_row(entry: BlockedHash, source: str) -> Row:
    """The row of `blocked_hashes`, without its time."""
    return {
        "hash_id": entry.hash_id,
        "category": entry.category.value,
        "phash": "" if entry.phash is None else f"{entry.phash:016x}",
        "sha256": entry.sha256,
        "source": source,
    }
