"""Takes what is personal out of records of the audit; what is left stays verifiable (see `chain.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from mesh.db import Database
from services.moderation.audit import AuditEntry, record
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.chain import emptied

BATCH = 500  # records emptied in one transaction, under one record of the erasure
C = AUDIT_RECORDS.c


class Emptying:
    """Empties records: those of an erased user, and those whose retention has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def where(self, which: sa.ColumnElement[bool], entry: AuditEntry) -> int:
        """Empties the records that `which` selects; each batch is told by an `entry` of its own."""
        total = 0
        wanted = sa.select(C.sequence).where(which, C.erased_by == 0).limit(BATCH)
        while found := await self._database.read(lambda c: list(c.execute(wanted).scalars())):
            total += await self._database.write(lambda c, batch=found: _empty(c, batch, entry))  # type: ignore[misc]
        return total


def _empty(connection: sa.Connection, sequences: list[int], entry: AuditEntry) -> int:
    """Empties those of the records that nobody emptied meanwhile."""
    wanted = sa.select(C.sequence, C.asset_id, C.action).where(C.sequence.in_(sequences), C.erased_by == 0)
    rows = [dict(row) for row in connection.execute(wanted.with_for_update()).mappings()]
    if rows:
        _take(connection, rows, record(connection, replace(entry, length=len(rows))))
    return len(rows)


def _take(connection: sa.Connection, rows: list[dict[str, Any]], erased_by: int) -> None:
    for values, sequences in _alike(rows):
        which = C.sequence.in_(sequences)
        connection.execute(sa.update(AUDIT_RECORDS).where(which).values(**values, erased_by=erased_by))


def _alike(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], list[int]]]:
    """The rows by what erasure writes into them: those whose hash is of a text, and the others."""
    groups: dict[bool, tuple[dict[str, Any], list[int]]] = {}
    for row in rows:
        values = emptied(row)
        groups.setdefault("sha256" in values, (values, []))[1].append(row["sequence"])
    return list(groups.values())
