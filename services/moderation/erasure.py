"""Erases users: from what waits for people, from the audit, and from every other table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import sqlalchemy as sa

from mesh.db import Database
from services.moderation.audit import AuditEntry
from services.moderation.audit_store import AuditReader
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.emptying import Emptying
from services.moderation.policy_changes import Who
from services.moderation.report_tables import REPORT_VOICES, REPORTS, STRIKES
from services.moderation.review_tables import APPEALS, REVIEWS
from services.moderation.reviews import State
from services.moderation.tables import VERDICTS
from services.moderation.withdrawing import withdraw

C = AUDIT_RECORDS.c

Eraser = Callable[[sa.Connection, str, str], int]
Tell = Callable[[str], Awaitable[None]]
"""Lets the router know that a job waits for nobody any more; it may be lost."""


def _verdicts(connection: sa.Connection, tenant: str, user: str) -> int:
    """Verdicts keep no text; the hash of a prompt goes with the user, that of a picture stays."""
    mine = sa.and_(VERDICTS.c.tenant == tenant, VERDICTS.c.end_user == user)
    of_text = sa.case((VERDICTS.c.subject == "PROMPT", ""), else_=VERDICTS.c.sha256)
    return connection.execute(sa.update(VERDICTS).where(mine).values(end_user="", sha256=of_text)).rowcount


def _reviews(connection: sa.Connection, tenant: str, user: str) -> int:
    """What is open was opened after the others were withdrawn: its request came later than the erasure."""
    ended = REVIEWS.c.state != State.OPEN.value
    mine = sa.and_(REVIEWS.c.tenant == tenant, REVIEWS.c.end_user == user, ended)
    return connection.execute(sa.update(REVIEWS).where(mine).values(end_user="", text="", note="")).rowcount


def _appeals(connection: sa.Connection, tenant: str, user: str) -> int:
    mine = sa.and_(APPEALS.c.tenant == tenant, APPEALS.c.end_user == user, APPEALS.c.state != "OPEN")
    return connection.execute(sa.update(APPEALS).where(mine).values(end_user="", statement="", answer="")).rowcount


def _reports(connection: sa.Connection, tenant: str, user: str) -> int:
    """The reports stay; who sent them, and in which words, goes."""
    mine = sa.and_(REPORTS.c.tenant == tenant, REPORTS.c.reporter == user)
    voices = sa.and_(REPORT_VOICES.c.tenant == tenant, REPORT_VOICES.c.reporter == user)
    theirs = REVIEWS.c.about.in_(sa.select(REPORTS.c.report_id).where(mine))
    connection.execute(sa.update(REVIEWS).where(theirs).values(text=""))
    connection.execute(sa.update(REPORT_VOICES).where(voices).values(reporter=""))
    return connection.execute(sa.update(REPORTS).where(mine).values(reporter="", statement="")).rowcount


def _strikes(connection: sa.Connection, tenant: str, user: str) -> int:
    mine = sa.and_(STRIKES.c.tenant == tenant, STRIKES.c.end_user == user)
    return connection.execute(sa.delete(STRIKES).where(mine)).rowcount


# Every other table that keeps a user's id or words; each empties its rows and tells how many.
ERASERS: tuple[Eraser, ...] = (_reviews, _appeals, _reports, _strikes, _verdicts)


class Erasure:
    """Erases users. tell: hears of jobs whose review was withdrawn."""

    def __init__(self, database: Database, tell: Tell) -> None:
        self._database = database
        self._emptying = Emptying(database)
        self._reader = AuditReader(database)
        self._tell = tell

    async def user(self, tenant: str, user: str, who: Who) -> int:
        """Erases the user everywhere; tells in how many records of the audit and rows elsewhere.

        First of all what waits for people is withdrawn: a decision that is being made holds its review's row, and its
        verdict and strike are there once that can be had. A batch is a transaction, so a process that dies in between
        has erased some; the call may be repeated. What the user does meanwhile is left to the next one.
        """
        withdrawn = await self._withdraw(tenant, user, who)
        rest = await self._database.write(lambda c: sum(erase(c, tenant, user) for erase in ERASERS))
        last = (await self._reader.head()).last
        mine = sa.and_(C.tenant == tenant, C.end_user == user, C.sequence <= last)
        entry = AuditEntry(action="ERASED", tenant=tenant, actor=who.actor, trace_id=who.trace_id)
        return withdrawn + rest + await self._emptying.where(mine, entry)

    async def _withdraw(self, tenant: str, user: str, who: Who) -> int:
        total = 0
        while ended := await self._database.write(lambda c: withdraw(c, tenant, user, who)):
            total += len(ended)
            for job_id in {review.job_id for review in ended if review.job_id}:
                await self._tell(job_id)
        return total
