"""The one way into the audit: every action is recorded inside the transaction that does it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import now_us
from mesh.ids import new_id
from services.moderation.tables import AUDIT_RECORDS

_INSERT = sa.insert(AUDIT_RECORDS)
_CLOCK = sa.select(now_us())


@dataclass(frozen=True)
class AuditEntry:
    """What happened, as the audit keeps it.

    action: an AuditAction of the contract without its prefix. actor: a key's id, a reviewer, or `mesh`. user: the end
    user as the caller named them. decision: a Decision's name, or empty. scores: `(category, score, decision)` each.
    sha256 and length: of what was judged. text: only where the policy keeps it. note: free text of a person.
    """

    action: str
    tenant: str
    actor: str
    user: str = ""
    trace_id: str = ""
    verdict_id: str = ""
    decision: str = ""
    scores: tuple[tuple[str, float, str], ...] = ()
    policy_id: str = ""
    policy_version: int = 0
    policy_etag: str = ""
    model_versions: tuple[str, ...] = ()
    sha256: str = ""
    length: int = 0
    text: str = ""
    job_id: str = ""
    asset_id: str = ""
    note: str = ""


def record(connection: sa.Connection, entry: AuditEntry) -> None:
    """Appends the entry in the running transaction; call it last, since it locks the chain's head until the commit."""
    row = {
        "record_id": new_id("aud"),
        "tenant": entry.tenant,
        "action": entry.action,
        "actor": entry.actor,
        "end_user": entry.user,
        "trace_id": entry.trace_id,
        "verdict_id": entry.verdict_id,
        "decision": entry.decision,
        "scores": [list(score) for score in entry.scores],
        "policy_id": entry.policy_id,
        "policy_version": entry.policy_version,
        "policy_etag": entry.policy_etag,
        "model_versions": list(entry.model_versions),
        "sha256": entry.sha256,
        "length": entry.length,
        "job_id": entry.job_id,
        "asset_id": entry.asset_id,
        "create_us": connection.execute(_CLOCK).scalar_one(),
    }
    connection.execute(_INSERT, row)
