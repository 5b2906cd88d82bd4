"""The one way into the audit: every action is recorded inside the transaction that does it.

An append locks the head's row until the commit, so records have sequences without a gap and a chain without a fork,
whoever writes, and a transaction that fails takes its record with it. See `chain.py` for what the hashes cover.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mesh.db import now_us
from mesh.ids import new_id
from services.moderation.audit_tables import AUDIT_HEAD, AUDIT_RECORDS
from services.moderation.chain import link, personal_digest, record_digest

SALT_BYTES = 16
NOTE_CHARACTERS = 4_000

_INSERT = sa.insert(AUDIT_RECORDS)
_HEAD = (
    sa.select(AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.chain, now_us().label("now"))
    .where(AUDIT_HEAD.c.id == 1)
    .with_for_update()
)
_MOVE = (
    sa.update(AUDIT_HEAD)
    .where(AUDIT_HEAD.c.id == 1)
    .values(sequence=sa.bindparam("new_sequence"), chain=sa.bindparam("new_chain"))
)


@dataclass(frozen=True)
class AuditEntry:
    """What happened, as the audit keeps it.

    action: an AuditAction of the contract without its prefix. actor: a key's id, a reviewer, or `mesh`. user: the end
    user as the caller named them. decision: a Decision's name, or empty. scores: `(category, score, decision)` each.
    sha256 and length: of what was judged. text: only where the policy keeps it. note: free text of a person, cut at
    4,000 characters.
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


def record(connection: sa.Connection, entry: AuditEntry) -> int:
    """Appends the entry in the running transaction and returns its sequence.

    Call it last: it locks the chain's head until the commit, and what follows would hold up every other append.
    """
    head = connection.execute(_HEAD).one()
    row = _sealed({**_row(entry), "sequence": int(head.sequence) + 1, "create_us": int(head.now)}, head.chain)
    connection.execute(_INSERT, row)
    connection.execute(_MOVE, {"new_sequence": row["sequence"], "new_chain": row["chain"]})
    return int(row["sequence"])


def _sealed(row: dict[str, Any], previous: str) -> dict[str, Any]:
    """The row with its salt and hashes."""
    row |= {"record_id": new_id("aud"), "salt": os.urandom(SALT_BYTES).hex(), "erased_by": 0}
    row["personal"] = personal_digest(row)
    row["digest"] = record_digest(row)
    row["chain"] = link(previous, row["digest"])
    return row


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {
        "tenant": entry.tenant,
        "action": entry.action,
        "actor": entry.actor,
        "end_user": _storable(entry.user),
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
        "text": _storable(entry.text),
        "job_id": entry.job_id,
        "asset_id": entry.asset_id,
        "note": _storable(entry.note[:NOTE_CHARACTERS]),
    }


def _storable(text: str) -> str:
    """PostgreSQL keeps neither NUL nor half a surrogate pair; the hashes are of what is kept."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
