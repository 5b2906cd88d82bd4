"""Reads of the audit: pages of records, the head, checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from mesh.db import Database, now_us
from services.moderation.audit_tables import AUDIT_CHECKPOINTS, AUDIT_HEAD, AUDIT_RECORDS
from services.moderation.chain import GENESIS
from services.moderation.checkpoints import Checkpoint

Row = dict[str, Any]
C, K = AUDIT_RECORDS.c, AUDIT_CHECKPOINTS.c
S = TypeVar("S", bound=sa.Select[Any])

# Sequences follow time but for what waited for the head's row; so checkpoints bound a search by time.
SLACK_US = 60_000_000
FIRST, LAST = -(2**63), 2**63 - 1

_LAST = sa.select(sa.func.coalesce(sa.func.max(C.sequence), 0))
_LOCKED = sa.select(AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.chain).where(AUDIT_HEAD.c.id == 1).with_for_update()


@dataclass(frozen=True)
class Head:
    """The end of the chain, and where it begins: records up to `cut_sequence` were removed by retention.

    cut_by: the sequence of the record that says so; 0 while nothing was removed. last: the newest record's sequence.
    """

    sequence: int
    chain: str
    cut_sequence: int
    cut_chain: str
    cut_by: int
    last: int


@dataclass(frozen=True)
class Filter:
    """Which records. Empty fields filter nothing; `to_us` is exclusive."""

    tenant: str = ""
    action: str = ""
    from_us: int = 0
    to_us: int = 0


class AuditReader:
    """What the audit holds. Every method is one read transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> int:
        """The database's clock."""
        return int(await self._database.read(lambda c: c.execute(sa.select(now_us())).scalar_one()))

    async def head(self) -> Head:
        """The chain's head."""
        return await self._database.read(head_of)

    async def newest(self, wanted: Filter, size: int, before: int | None) -> list[Row]:
        """Up to `size` records, newest first, with sequences below `before`; None begins at the newest."""
        query = _filtered(sa.select(AUDIT_RECORDS), wanted).order_by(C.sequence.desc()).limit(size)
        return await self._rows(query if before is None else query.where(C.sequence < before))

    async def oldest(self, wanted: Filter, size: int, after: int | None) -> list[Row]:
        """Up to `size` records, oldest first, with sequences above `after`; None begins at the oldest."""
        query = _filtered(sa.select(AUDIT_RECORDS), wanted).order_by(C.sequence).limit(size)
        return await self._rows(query if after is None else query.where(C.sequence > after))

    async def span(self, after: int, upto: int, size: int) -> list[Row]:
        """Up to `size` records of the chain with `after` < sequence <= `upto`, in order."""
        return await self._rows(
            sa.select(AUDIT_RECORDS).where(C.sequence > after, C.sequence <= upto).order_by(C.sequence).limit(size)
        )

    async def named(self, sequences: Iterable[int]) -> dict[int, Row]:
        """Those of the records that there are, by sequence."""
        found = await self._rows(sa.select(AUDIT_RECORDS).where(C.sequence.in_(list(sequences))))
        return {int(row["sequence"]): row for row in found}

    async def chains(self, sequences: Iterable[int]) -> dict[int, str]:
        """The chain's values after those of the records that there are."""
        query = sa.select(C.sequence, C.chain).where(C.sequence.in_(list(sequences)))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {int(row[0]): row[1] for row in rows}

    async def checkpoints(self, after: int, size: int) -> list[Checkpoint]:
        """Up to `size` checkpoints of the table above `after`, in order."""
        query = sa.select(K.sequence, K.chain, K.create_us).where(K.sequence > after).order_by(K.sequence).limit(size)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Checkpoint(int(row[0]), row[1], int(row[2])) for row in rows]

    async def _rows(self, query: sa.Select[Any]) -> list[Row]:
        return await self._database.read(lambda connection: [dict(row) for row in connection.execute(query).mappings()])


def head_of(connection: sa.Connection) -> Head:
    """The head's row and the newest sequence, as of one moment; an empty chain where the row was removed."""
    h = AUDIT_HEAD.c
    query = sa.select(h.sequence, h.chain, h.cut_sequence, h.cut_chain, h.cut_by, _LAST.scalar_subquery())
    row = connection.execute(query.where(h.id == 1)).one_or_none()
    if row is None:
        last = int(connection.execute(_LAST).scalar_one())
        return Head(last, "", 0, GENESIS, 0, last)
    return Head(int(row[0]), row[1], int(row[2]), row[3], int(row[4]), int(row[5]))


def locked_head(connection: sa.Connection) -> tuple[int, str]:
    """The head's sequence and chain; nothing is appended until the commit."""
    row = connection.execute(_LOCKED).one()
    return int(row[0]), row[1]


def _filtered(query: S, wanted: Filter) -> S:
    if wanted.tenant:
        query = query.where(C.tenant == wanted.tenant)
    if wanted.action:
        query = query.where(C.action == wanted.action)
    if wanted.from_us:
        passed = sa.select(sa.func.max(K.sequence)).where(K.create_us < wanted.from_us - SLACK_US)
        query = query.where(
            C.create_us >= wanted.from_us, C.sequence > sa.func.coalesce(passed.scalar_subquery(), FIRST)
        )
    if wanted.to_us:
        passed = sa.select(sa.func.min(K.sequence)).where(K.create_us >= wanted.to_us + SLACK_US)
        query = query.where(C.create_us < wanted.to_us, C.sequence <= sa.func.coalesce(passed.scalar_subquery(), LAST))
    return query
