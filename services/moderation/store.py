"""Verdicts, audit records and blocked pictures in SQL."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore, now_us
from mesh.events import Event
from mesh.outbox import append
from services.moderation.audit import record as record_audit
from services.moderation.exemptions import exempted
from services.moderation.perceptual import BlockedHash, HashTable
from services.moderation.policies import Strikes
from services.moderation.policy_tables import POLICIES_VERSION, SHADOW_VERDICTS
from services.moderation.review_store import open_review, outcome_of, waiting_about
from services.moderation.reviews import of_verdict, topic_of
from services.moderation.rows import (
    AuditNote,
    Row,
    audit_entry,
    blocked_of,
    blocked_row,
    scores_out,
    verdict_of,
    verdict_row,
)
from services.moderation.shadow import ShadowVerdict
from services.moderation.strike_store import counting, give
from services.moderation.tables import BLOCKED_HASHES, BLOCKLIST_VERSION, OUTBOX, VERDICTS
from services.moderation.verdicts import Decision, Signs, Subject, SubjectKind, Verdict

V = VERDICTS.c
Announce = Callable[[Verdict], Sequence[Event]]
Overtake = Callable[[sa.Connection, str, Verdict], None]
"""Ends the open review of this id, since another verdict stands now."""


_CLOCK = sa.select(
    now_us(), POLICIES_VERSION.c.version, BLOCKLIST_VERSION.c.version, waiting_about("topic").scalar_subquery()
).where(POLICIES_VERSION.c.id == 1, BLOCKLIST_VERSION.c.id == POLICIES_VERSION.c.id)
_CLOCK_FOR_TEXT = _CLOCK.with_for_update(read=True, of=POLICIES_VERSION)
_CLOCK_FOR_IMAGE = _CLOCK.with_for_update(read=True)
_BY_ID = sa.select(VERDICTS).where(VERDICTS.c.verdict_id == sa.bindparam("wanted"))
_SIGNS = sa.select(sa.func.max(V.sexual), sa.func.max(V.minor)).where(
    V.tenant == sa.bindparam("whose"), V.job_id == sa.bindparam("job"), V.subject == SubjectKind.PROMPT.value
)

REMEMBERED = 4_096  # verdicts; storage asks for each one right after it was given


@dataclass(frozen=True)
class Basis:
    """What a verdict was given by: the count of policy changes, and for pictures the version of the blocked ones."""

    policies: int
    table: int | None = None


@dataclass(frozen=True)
class Given:
    """A verdict to store, what it was given by, and what shadow versions would have decided.

    words: what a reviewer must read; empty for pictures. strikes: the policy's rule; None where none are given.
    """

    verdict: Verdict
    basis: Basis
    shadows: tuple[ShadowVerdict, ...] = ()
    words: str = ""
    strikes: Strikes | None = None


class Store:
    """What moderation keeps. Every method is one transaction.

    A picture's verdict never changes once it is stored, so the newest ones are remembered. overtake: called where a job
    got another verdict about what waits for a person.
    """

    def __init__(self, database: Database, overtake: Overtake) -> None:
        self._database = database
        self._overtake = overtake
        self._recent: OrderedDict[str, Verdict] = OrderedDict()

    async def record(self, given: Given, note: AuditNote, announce: Announce) -> Verdict | None:
        """Stores the verdict, its shadows, its audit record and its events, and returns the verdict as stored.

        A verdict id that is stored already keeps its first row, which is returned. A REVIEW verdict opens a review;
        what was decided about the same before is returned instead. None when what it was given by has changed by now:
        the verdict must be given anew.
        """
        stored = await self._database.write(lambda c: _record(c, given, note, (announce, self._overtake)), brief=True)
        if stored is not None:
            self._remember(stored)
        return stored

    async def verdict(self, verdict_id: str, tenant: str) -> Verdict | None:
        """The verdict, if it is the tenant's; an empty tenant sees all."""
        found = self._recent.get(verdict_id)
        if found is None:
            found = await self._database.read(lambda connection: verdict_by_id(connection, verdict_id), brief=True)
        return found if found is not None and tenant in ("", found.subject.tenant) else None

    async def exempted(self, subject: Subject, policy_id: str, version: int) -> bool:
        """Whether a person let exactly this content through for the tenant under this version."""
        return await self._database.read(
            lambda c: exempted(c, subject.tenant, subject.sha256, policy_id, version), brief=True
        )

    async def signs_of(self, tenant: str, job_id: str) -> Signs:
        """What the job's prompts came to; nothing outside a job."""
        return await self._database.read(lambda c: _signs(c, tenant, job_id), brief=True) if job_id else Signs()

    async def strikes(self, tenant: str, user: str) -> int:
        """How many strikes of the user count now."""
        return await self._database.read(lambda c: counting(c, tenant, user), brief=True)

    async def blocklist_version(self) -> int:
        """How often the blocked pictures were changed."""
        return await self._database.read(_blocklist_version, brief=True)

    async def hash_table(self) -> HashTable:
        """All blocked pictures."""
        return await self._database.read(_hash_table)

    async def block(self, entries: Sequence[BlockedHash], source: str) -> int:
        """Adds blocked pictures; tells how many were new. Verdicts in flight are given anew."""
        return await self._database.write(lambda connection: block_hashes(connection, entries, source))

    def _remember(self, verdict: Verdict) -> None:
        if verdict.subject.kind is not SubjectKind.IMAGE:  # a prompt's hash goes when its user is erased
            return
        self._recent[verdict.verdict_id] = verdict
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)


def _record(
    connection: sa.Connection, given: Given, note: AuditNote, hooks: tuple[Announce, Overtake]
) -> Verdict | None:
    """What the verdict was given by stays locked until the commit."""
    announce, overtake = hooks
    verdict, basis = given.verdict, given.basis
    clock = _CLOCK_FOR_TEXT if basis.table is None else _CLOCK_FOR_IMAGE
    topic = topic_of(verdict)
    now, policies, table, waiting = connection.execute(clock, {"topic": topic}).one()
    if policies != basis.policies or basis.table not in (None, table):
        return None
    if verdict.judgement.decision is Decision.REVIEW:
        outcome = outcome_of(connection, topic)
        if outcome:
            return verdict_by_id(connection, outcome)
    stamped = replace(verdict, create_us=int(now))
    if not insert_or_ignore(connection, VERDICTS, verdict_row(stamped)):
        first = verdict_by_id(connection, verdict.verdict_id)
        return first if first is not None and first.subject.tenant == verdict.subject.tenant else None
    if given.shadows:
        connection.execute(sa.insert(SHADOW_VERDICTS), [_shadow_row(stamped, shadow) for shadow in given.shadows])
    if given.strikes is not None:
        give(connection, stamped, given.strikes)
    if verdict.judgement.decision is Decision.REVIEW and open_review(connection, of_verdict(stamped, given.words)):
        for event in announce(stamped):
            append(connection, OUTBOX, event)
    if waiting and verdict.subject.job_id and verdict.judgement.decision is not Decision.REVIEW:
        overtake(connection, waiting, stamped)
    record_audit(connection, audit_entry(stamped, note))
    return stamped


def _shadow_row(verdict: Verdict, shadow: ShadowVerdict) -> Row:
    return {
        "verdict_id": verdict.verdict_id,
        "policy_id": shadow.policy_id,
        "policy_version": shadow.policy_version,
        "tenant": verdict.subject.tenant,
        "before": verdict.judgement.decision.name,
        "decision": shadow.judgement.decision.name,
        "scores": scores_out(shadow.judgement),
        "create_us": verdict.create_us,
    }


def keep_verdict(connection: sa.Connection, verdict: Verdict) -> Verdict:
    """Stores a verdict that a person gave, in the running transaction; a repeat keeps the first."""
    stamped = replace(verdict, create_us=int(connection.execute(sa.select(now_us())).scalar_one()))
    insert_or_ignore(connection, VERDICTS, verdict_row(stamped))
    return stamped


def verdict_by_id(connection: sa.Connection, verdict_id: str) -> Verdict | None:
    """The verdict; None when there is none."""
    row = connection.execute(_BY_ID, {"wanted": verdict_id}).mappings().one_or_none()
    return None if row is None else verdict_of(row)  # type: ignore[arg-type]  # keys are column names


def _signs(connection: sa.Connection, tenant: str, job_id: str) -> Signs:
    row = connection.execute(_SIGNS, {"whose": tenant, "job": job_id}).one()
    return Signs(row[0] or 0.0, row[1] or 0.0)


def _blocklist_version(connection: sa.Connection) -> int:
    return int(connection.execute(sa.select(BLOCKLIST_VERSION.c.version)).scalar_one())


def _hash_table(connection: sa.Connection) -> HashTable:
    # The version first: entries that come in between make the table newer than it says, never older.
    version = _blocklist_version(connection)
    rows = connection.execute(sa.select(BLOCKED_HASHES)).mappings()
    return HashTable(version, [blocked_of(row) for row in rows])  # type: ignore[arg-type]  # keys are column names


def block_hashes(connection: sa.Connection, entries: Sequence[BlockedHash], source: str) -> int:
    """Adds blocked pictures in the running transaction; tells how many were new."""
    now = connection.execute(sa.select(now_us())).scalar_one()
    rows = [{**blocked_row(entry, source), "create_us": now} for entry in entries]
    added = sum(insert_or_ignore(connection, BLOCKED_HASHES, row) for row in rows)
    if added:
        raised = sa.update(BLOCKLIST_VERSION).values(version=BLOCKLIST_VERSION.c.version + 1)
        connection.execute(raised)
    return added
