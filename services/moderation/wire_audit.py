"""The audit's messages as domain values and back; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.moderation.v1 import audit_pb2, verdict_pb2
from imagemesh.moderation.v1 import audit_service_pb2 as pb2

from mesh.errors import invalid
from mesh.validation import Rule, check, matches, one_of
from services.moderation.audit_store import Filter
from services.moderation.checkpoints import Checkpoint
from services.moderation.verification import Report
from services.moderation.wire import USER_FIX, words

EXPORT_BYTES = 1 << 20
PAGE_BYTES = 2 << 20  # of a page of records; a client takes 4 MiB

_TENANT = Rule("tenant", matches(r"[a-z0-9-]{0,63}"), "a tenant, or empty for all")
LIST_RULES = (_TENANT, Rule("action", one_of(*audit_pb2.AuditAction.values()), "an action of the contract"))
EXPORT_RULES = (_TENANT,)
VERIFY_RULES = (Rule("from_sequence", lambda given: given >= 0, "0 or more"),)
ERASE_RULES = (
    Rule("tenant", matches(r"[a-z0-9][a-z0-9-]{0,62}"), "required: the tenant"),
    Rule("user", words(1, 256), f"required: {USER_FIX}"),
)


def filter_of(request: pb2.ListAuditRecordsRequest) -> Filter:
    """Which records; InvalidArgument with every mistake."""
    check(request, LIST_RULES)
    name = audit_pb2.AuditAction.Name(request.action).removeprefix("AUDIT_ACTION_")
    action = "" if request.action == audit_pb2.AUDIT_ACTION_UNSPECIFIED else name
    return Filter(request.tenant, action, _micros(request, "from_time"), _micros(request, "to_time"))


def export_of(request: pb2.ExportAuditRecordsRequest) -> Filter:
    """Which records; InvalidArgument with every mistake."""
    check(request, EXPORT_RULES)
    return Filter(request.tenant, "", _micros(request, "from_time"), _micros(request, "to_time"))


def record_out(row: Mapping[str, Any]) -> audit_pb2.AuditRecord:
    """A row of `audit_records` as the contract has it."""
    message = audit_pb2.AuditRecord(
        record_id=row["record_id"],
        sequence=max(row["sequence"], 0),
        tenant=row["tenant"],
        action=audit_pb2.AuditAction.Value(f"AUDIT_ACTION_{row['action']}"),
        actor=row["actor"],
        user=row["end_user"],
        trace_id=row["trace_id"],
        verdict_id=row["verdict_id"],
        decision=verdict_pb2.Decision.Value(f"DECISION_{row['decision'] or 'UNSPECIFIED'}"),
        scores=[_score_out(*score) for score in row["scores"]],
        policy_id=row["policy_id"],
        policy_version=row["policy_version"],
        policy_etag=row["policy_etag"],
        model_versions=row["model_versions"],
        sha256=row["sha256"],
        length=row["length"],
        text=row["text"],
        job_id=row["job_id"],
        asset_id=row["asset_id"],
        note=row["note"],
        digest=bytes.fromhex(row["digest"]),
        chain=bytes.fromhex(row["chain"]),
        erased_by=row["erased_by"],
    )
    message.create_time.FromMicroseconds(row["create_us"])
    return message


def fitting(records: Iterable[audit_pb2.AuditRecord]) -> list[audit_pb2.AuditRecord]:
    """As many of the records, at least one, as a page may hold bytes."""
    page: list[audit_pb2.AuditRecord] = []
    size = 0
    for record in records:
        size += record.ByteSize()
        if page and size > PAGE_BYTES:
            break
        page.append(record)
    return page


def pieces(rows: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """The records as JSON Lines, in pieces of whole lines of at most 1 MiB."""
    found: list[bytearray] = []
    for row in rows:
        line = json_format.MessageToJson(record_out(row), indent=None, ensure_ascii=False).encode() + b"\n"
        if not found or len(found[-1]) + len(line) > EXPORT_BYTES:
            found.append(bytearray())
        found[-1] += line
    return [bytes(piece) for piece in found]


def report_out(report: Report) -> pb2.VerifyAuditResponse:
    """What a verification found."""
    broken = report.broken
    return pb2.VerifyAuditResponse(
        intact=broken is None,
        checked=report.checked,
        first_broken_sequence=broken.sequence if broken else 0,
        finding=broken.finding if broken else "",
        checkpoint=None if report.newest is None else _checkpoint_out(report.newest),
        compared=[audit_pb2.AuditAnchor.Value(f"AUDIT_ANCHOR_{name}") for name in report.compared],
        not_compared=[audit_pb2.AuditAnchor.Value(f"AUDIT_ANCHOR_{name}") for name in report.not_compared],
    )


def _checkpoint_out(checkpoint: Checkpoint) -> audit_pb2.AuditCheckpoint:
    message = audit_pb2.AuditCheckpoint(sequence=checkpoint.sequence, head=bytes.fromhex(checkpoint.chain))
    message.create_time.FromMicroseconds(checkpoint.create_us)
    return message


def _score_out(category: str, score: float, decision: str) -> verdict_pb2.CategoryScore:
    return verdict_pb2.CategoryScore(
        category=verdict_pb2.Category.Value(f"CATEGORY_{category}"),
        score=score,
        decision=verdict_pb2.Decision.Value(f"DECISION_{decision}"),
    )


def _micros(request: pb2.ListAuditRecordsRequest | pb2.ExportAuditRecordsRequest, name: str) -> int:
    """0 for a time that is not given."""
    time: Timestamp = getattr(request, name)
    if not request.HasField(name):  # type: ignore[arg-type]  # one of the two messages' times
        return 0
    if not (0 <= time.nanos < 10**9 and 0 <= time.seconds < 253_402_300_800):
        raise invalid(name, "a time of the years 1970 to 9999")
    return max(time.ToMicroseconds(), 1)
