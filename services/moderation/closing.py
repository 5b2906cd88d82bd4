"""How a review ends, whoever ends it: its row, the events, the record."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from mesh.events import Event
from mesh.outbox import append
from mesh.telemetry import current
from services.moderation import audit, wire_events
from services.moderation.appeal_store import Settled
from services.moderation.audit import AuditEntry
from services.moderation.policy_changes import Who
from services.moderation.review_store import clock, locked, save
from services.moderation.reviews import Review, Ruling, State
from services.moderation.tables import OUTBOX
from services.moderation.verdicts import Decision, Verdict


def close(connection: sa.Connection, review: Review, ruling: Ruling, reviewer: str, outcome_id: str) -> Review:
    """The locked review, ended and told; its text goes. reviewer: empty where nobody decided; a block is EXPIRED."""
    nobody = not reviewer and ruling.decision is Decision.BLOCK
    closed = save(
        connection,
        review,
        state=State.EXPIRED if nobody else State.DECIDED,
        reviewer=reviewer,
        claim_us=0,
        decision=ruling.decision,
        reason=ruling.reason,
        note=ruling.note,
        text="",
        outcome_id=outcome_id,
        decide_us=clock(connection),
    )
    _tell(connection, wire_events.review_decided(closed, current()))
    return closed


def overtake(connection: sa.Connection, review_id: str, verdict: Verdict) -> None:
    """The job asked again, and under another policy it got this verdict: nobody need decide any more."""
    review = locked(connection, review_id)
    if review.state is not State.OPEN:
        return
    passes = verdict.judgement.decision in (Decision.ALLOW, Decision.FLAG)
    note = f"overtaken by {verdict.policy_id} {verdict.policy_version}"
    ruling = Ruling(Decision.ALLOW if passes else Decision.BLOCK, note=note)
    closed = close(connection, review, ruling, "", verdict.verdict_id)
    put_on_record(connection, closed, Who("mesh", ""), verdict.subject.sha256)


def end_upheld(connection: sa.Connection, review_ids: Iterable[str], ruling: Ruling, who: Who) -> list[Review]:
    """Closes the reviews of reports whose picture was taken down; to be put on record."""
    waiting = [locked(connection, review_id) for review_id in review_ids]
    is_open = [review for review in waiting if review.state is State.OPEN]
    return [close(connection, review, ruling, who.actor, review.verdict_id) for review in is_open]


def tell_settled(connection: sa.Connection, settled: Settled) -> None:
    """An appeal was decided."""
    _tell(connection, wire_events.appeal_decided(settled.appeal, settled.verdict.subject, current()))


def put_on_record(connection: sa.Connection, closed: Review, who: Who, sha256: str) -> None:
    """The review's end, as the audit keeps it; call it last. sha256: of what it was about."""
    decision = closed.decision.name if closed.decision is not None else ""
    entry = AuditEntry(
        action="REVIEW_DECIDED",
        tenant=closed.tenant,
        actor=who.actor,
        user=closed.end_user,
        trace_id=who.trace_id,
        verdict_id=closed.outcome_id,
        decision=decision,
        scores=((closed.reason.value, 1.0, decision),) if closed.reason else (),
        sha256=sha256,
        job_id=closed.job_id,
        asset_id=closed.asset_id,
        note=closed.note,
    )
    audit.record(connection, entry)


def _tell(connection: sa.Connection, event: Event) -> None:
    append(connection, OUTBOX, event)
