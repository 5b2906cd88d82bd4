"""Appeals in SQL: one for each verdict; a granted one takes effect in the transaction that grants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore
from mesh.errors import AlreadyExists, FailedPrecondition, NotFound
from mesh.ids import derived_id
from services.moderation import audit
from services.moderation.audit import AuditEntry
from services.moderation.exemptions import exempt
from services.moderation.policy_changes import Who
from services.moderation.review_rows import storable
from services.moderation.review_store import clock
from services.moderation.review_tables import APPEALS
from services.moderation.reviews import Cause, Review, Ruling, decided, minded, severity_of_verdict
from services.moderation.storage_orders import Kind, Order, add_order
from services.moderation.store import keep_verdict, verdict_by_id
from services.moderation.strike_store import take_back
from services.moderation.takedown_store import standing
from services.moderation.verdicts import Decision, SubjectKind, Verdict

OPEN, GRANTED, DENIED = "OPEN", "GRANTED", "DENIED"
A = APPEALS.c


@dataclass(frozen=True, slots=True)
class Appeal:
    """A caller's objection to a verdict. Times are microseconds since 1970-01-01 UTC."""

    appeal_id: str
    tenant: str
    verdict_id: str
    state: str
    statement: str
    answer: str
    reviewer: str
    end_user: str
    create_us: int
    decide_us: int

    def decided(self, answer: str, *, granted: bool, by: str) -> bool:
        """Whether this reviewer decided just this; the answer may have been lost."""
        state = GRANTED if granted else DENIED
        return (self.state, self.answer, self.reviewer) == (state, storable(answer), by)


@dataclass(frozen=True, slots=True)
class Settled:
    """A decided appeal with its verdict. content: what storage must be told of; empty: nothing."""

    appeal: Appeal
    verdict: Verdict
    content: str = ""


class Appeals:
    """The appeals of every tenant. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant: str, state: str, after: tuple[int, str] | None, size: int) -> Sequence[Appeal]:
        """Oldest first; an empty tenant or state stands for all."""
        return await self._database.read(lambda c: _page(c, (tenant, state), after, size))


def add(connection: sa.Connection, verdict_id: str, statement: str, tenant: str) -> tuple[Appeal, Verdict]:
    """Stores the tenant's objection to its own verdict."""
    verdict = verdict_by_id(connection, verdict_id)
    if verdict is None or verdict.subject.tenant != tenant:
        raise NotFound(f"there is no verdict {verdict_id!r}", reason="VERDICT_NOT_FOUND")
    if verdict.judgement.decision is not Decision.BLOCK:
        raise FailedPrecondition("only a verdict that blocks can be appealed")
    if not verdict.subject.sha256:
        raise FailedPrecondition("the text that the verdict is about was erased")
    appeal = Appeal(
        appeal_id=derived_id("apl", verdict_id),
        tenant=tenant,
        verdict_id=verdict_id,
        state=OPEN,
        statement=storable(statement),
        answer="",
        reviewer="",
        end_user=verdict.subject.user,
        create_us=clock(connection),
        decide_us=0,
    )
    row = {name: getattr(appeal, name) for name in Appeal.__slots__}
    if not insert_or_ignore(connection, APPEALS, row):
        raise AlreadyExists("the verdict was appealed before", reason="ALREADY_APPEALED")
    return appeal, verdict


def review_of_appeal(appeal: Appeal, verdict: Verdict) -> Review:
    """The item of the queue that stands for the appeal."""
    subject = verdict.subject
    return Review(
        review_id=derived_id("rev", appeal.appeal_id),
        topic=derived_id("top", appeal.appeal_id),
        tenant=appeal.tenant,
        cause=Cause.APPEAL,
        severity=severity_of_verdict(verdict),
        categories=minded(verdict),
        verdict_id=appeal.verdict_id,
        asset_id=subject.asset_id,
        job_id=subject.job_id,
        about=appeal.appeal_id,
        end_user=subject.user,
        text=appeal.statement,
    )


def require(connection: sa.Connection, appeal_id: str) -> None:
    """NotFound (APPEAL_NOT_FOUND) unless there is such an appeal."""
    if connection.execute(sa.select(A.appeal_id).where(A.appeal_id == appeal_id)).first() is None:
        raise _unknown(appeal_id)


def settled(connection: sa.Connection, appeal_id: str) -> Settled:
    """The appeal as it stands, with its verdict, and what storage was told of where it was granted."""
    row = connection.execute(sa.select(APPEALS).where(A.appeal_id == appeal_id)).mappings().one()
    verdict = verdict_by_id(connection, row["verdict_id"])
    assert verdict is not None, "verdicts are never removed"
    told = row["state"] == GRANTED and verdict.subject.asset_id
    return Settled(Appeal(**row), verdict, verdict.subject.sha256 if told else "")


def settle(connection: sa.Connection, appeal_id: str, answer: str, *, granted: bool, who: Who) -> Settled:
    """Decides an open appeal; what follows is written with it."""
    query = sa.select(APPEALS).where(A.appeal_id == appeal_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise _unknown(appeal_id)
    if row["state"] != OPEN:
        raise FailedPrecondition(f"the appeal is {row['state']}")
    verdict = verdict_by_id(connection, row["verdict_id"])
    assert verdict is not None, "verdicts are never removed"
    changes = {
        "state": GRANTED if granted else DENIED,
        "answer": storable(answer),
        "reviewer": who.actor,
        "decide_us": clock(connection),
    }
    connection.execute(sa.update(APPEALS).where(A.appeal_id == appeal_id).values(**changes))
    content = _grant(connection, appeal_id, verdict) if granted else ""
    return Settled(Appeal(**{**row, **changes}), verdict, content)


def put_on_record(connection: sa.Connection, appeal: Appeal, verdict: Verdict, who: Who) -> None:
    """An appeal was made or decided; call it last."""
    subject = verdict.subject
    entry = AuditEntry(
        action="APPEAL",
        tenant=appeal.tenant,
        actor=who.actor,
        user=subject.user,
        trace_id=who.trace_id,
        verdict_id=appeal.verdict_id,
        decision={GRANTED: "ALLOW", DENIED: "BLOCK"}.get(appeal.state, ""),
        policy_id=verdict.policy_id,
        policy_version=verdict.policy_version,
        sha256=subject.sha256,
        length=subject.length,
        job_id=subject.job_id,
        asset_id=subject.asset_id,
        note=appeal.statement if appeal.state == OPEN else appeal.answer,
    )
    audit.record(connection, entry)


def _unknown(appeal_id: str) -> NotFound:
    return NotFound(f"there is no appeal {appeal_id!r}", reason="APPEAL_NOT_FOUND")


def _grant(connection: sa.Connection, appeal_id: str, verdict: Verdict) -> str:
    """A prompt is exempt from now on, a picture let out under a new verdict; the content to tell storage of."""
    subject = verdict.subject
    take_back(connection, verdict.verdict_id)
    if subject.kind is SubjectKind.PROMPT:
        if subject.sha256:
            exempt(connection, subject.tenant, subject.sha256, verdict.policy_id, verdict.policy_version)
        return ""
    if standing(connection, subject.sha256) is not None:
        raise FailedPrecondition("the picture is taken down; restore it first")
    overturned = keep_verdict(connection, decided(verdict, Ruling(Decision.ALLOW), appeal_id))
    if not subject.asset_id:
        return ""
    order = Order(Kind.PUBLISH, subject.tenant, subject.asset_id, subject.sha256, overturned.verdict_id)
    add_order(connection, order)
    return subject.sha256


def _page(connection: sa.Connection, wanted: tuple[str, str], after: tuple[int, str] | None, size: int) -> list[Appeal]:
    query = sa.select(APPEALS).order_by(A.create_us, A.appeal_id).limit(size)
    for column, value in zip((A.tenant, A.state), wanted, strict=True):
        query = query.where(column == value) if value else query
    if after is not None:
        place = sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1]))
        query = query.where(sa.tuple_(A.create_us, A.appeal_id) > place)
    return [Appeal(**row) for row in connection.execute(query).mappings()]
