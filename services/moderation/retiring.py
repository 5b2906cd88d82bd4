"""Empties what the tables beside the audit keep of persons, once a tenant's retention has ended; decisions stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mesh.db import Database
from services.moderation.report_tables import REPORT_VOICES, REPORTS, STRIKES
from services.moderation.review_tables import APPEALS, REVIEWS
from services.moderation.tables import VERDICTS

BATCH = 500  # rows emptied in one transaction


@dataclass(frozen=True)
class _Kept:
    """A table with the columns that tell of a person. ended: what nobody works on any more."""

    table: sa.Table
    personal: tuple[str, ...]
    ended: sa.ColumnElement[bool]
    more: Mapping[str, Any]


_APPEALED = sa.select(APPEALS.c.verdict_id).where(APPEALS.c.state == "OPEN")  # the prompt's hash is still needed
_PROMPTLESS = sa.case((VERDICTS.c.subject == "PROMPT", ""), else_=VERDICTS.c.sha256)
_KEPT = (
    _Kept(REVIEWS, ("end_user", "text", "note"), REVIEWS.c.state != "OPEN", {}),
    _Kept(APPEALS, ("end_user", "statement", "answer"), APPEALS.c.state != "OPEN", {}),
    _Kept(REPORTS, ("reporter", "statement"), REPORTS.c.state != "OPEN", {}),
    _Kept(REPORT_VOICES, ("reporter",), sa.true(), {}),
    _Kept(STRIKES, ("end_user",), sa.true(), {"cleared": True}),
    _Kept(VERDICTS, ("end_user",), VERDICTS.c.verdict_id.not_in(_APPEALED), {"sha256": _PROMPTLESS}),
)


async def retire(database: Database, tenants: tuple[str, ...], before_us: int, *, others: bool = False) -> int:
    """Empties what is older, of these tenants, or of all others; how many rows."""
    return sum([await _all(database, kept, tenants, before_us, others) for kept in _KEPT])


async def _all(database: Database, kept: _Kept, tenants: tuple[str, ...], before_us: int, others: bool) -> int:
    columns = kept.table.c
    whose = columns.tenant.not_in(tenants) if others else columns.tenant.in_(tenants)
    personal = sa.or_(*(columns[name] != "" for name in kept.personal))
    late = (columns.expire_us if kept.table is STRIKES else columns.create_us) < before_us
    (identity,) = kept.table.primary_key.columns
    some = sa.select(identity).where(whose, late, personal, kept.ended).limit(BATCH)
    empty = sa.update(kept.table).where(identity.in_(some)).values({**dict.fromkeys(kept.personal, ""), **kept.more})
    total = 0
    while count := await database.write(lambda connection: connection.execute(empty).rowcount):
        total += count
    return total
