"""Strikes in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore
from mesh.errors import NotFound
from mesh.ids import derived_id
from services.moderation import audit
from services.moderation.audit import AuditEntry
from services.moderation.policies import Strikes
from services.moderation.policy_changes import Who
from services.moderation.report_tables import STRIKES
from services.moderation.review_store import clock
from services.moderation.strikes import DAY_US, earned
from services.moderation.verdicts import Category, Verdict

S = STRIKES.c


@dataclass(frozen=True, slots=True)
class Strike:
    """A mark against a user. Times are microseconds since 1970-01-01 UTC."""

    strike_id: str
    tenant: str
    end_user: str
    verdict_id: str
    category: Category
    cleared: bool
    create_us: int
    expire_us: int


class StrikeBook:
    """Strikes of every tenant's users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant: str, user: str, after: tuple[int, str] | None, size: int) -> Sequence[Strike]:
        """Newest first; an empty tenant or user stands for all."""
        return await self._database.read(lambda c: _page(c, tenant, user, after, size))

    async def clear(self, tenant: str, user: str, note: str, who: Who) -> int:
        """Ends the user's strikes; NotFound (USER_NOT_FOUND) when there is none that counts."""
        return await self._database.write(lambda c: _clear(c, (tenant, user), note, who))


def counting(connection: sa.Connection, tenant: str, user: str) -> int:
    """How many strikes of the user count now."""
    mine = (S.tenant == tenant, S.end_user == user, S.cleared.is_(False), S.expire_us > clock(connection))
    return int(connection.execute(sa.select(sa.func.count()).select_from(STRIKES).where(*mine)).scalar_one())


def give(connection: sa.Connection, verdict: Verdict, rule: Strikes) -> None:
    """Gives the strike that the verdict earns, if any; once for each verdict."""
    category = earned(verdict, rule)
    if category is None:
        return
    now = clock(connection)
    row = {
        "strike_id": derived_id("stk", verdict.verdict_id),
        "tenant": verdict.subject.tenant,
        "end_user": verdict.subject.user,
        "verdict_id": verdict.verdict_id,
        "category": category.value,
        "cleared": False,
        "create_us": now,
        "expire_us": now + rule.window_days * DAY_US,
    }
    insert_or_ignore(connection, STRIKES, row)


def take_back(connection: sa.Connection, verdict_id: str) -> None:
    """The verdict was overturned: its strike counts no more."""
    connection.execute(sa.update(STRIKES).where(S.verdict_id == verdict_id).values(cleared=True))


def _clear(connection: sa.Connection, whose: tuple[str, str], note: str, who: Who) -> int:
    tenant, user = whose
    mine = (S.tenant == tenant, S.end_user == user, S.cleared.is_(False), S.expire_us > clock(connection))
    cleared = connection.execute(sa.update(STRIKES).where(*mine).values(cleared=True)).rowcount
    if not cleared:
        raise NotFound("the user has no strikes", reason="USER_NOT_FOUND")
    audit.record(
        connection,
        AuditEntry("STRIKES_CLEARED", tenant, who.actor, user=user, trace_id=who.trace_id, length=cleared, note=note),
    )
    return cleared


def _page(connection: sa.Connection, tenant: str, user: str, after: tuple[int, str] | None, size: int) -> list[Strike]:
    query = sa.select(STRIKES).order_by(S.create_us.desc(), S.strike_id.desc()).limit(size)
    for column, wanted in ((S.tenant, tenant), (S.end_user, user)):
        query = query.where(column == wanted) if wanted else query
    if after is not None:
        query = query.where(
            sa.tuple_(S.create_us, S.strike_id) < sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1]))
        )
    rows = connection.execute(query).mappings()
    return [Strike(**{**row, "category": Category(row["category"])}) for row in rows]
