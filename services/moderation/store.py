"""Verdicts, audit records and blocked pictures in SQL."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore, now_us
from mesh.events import Event
from mesh.outbox import append
from services.moderation.audit import record as record_audit
from services.moderation.perceptual import BlockedHash, HashTable
from services.moderation.rows import AuditNote, audit_entry, blocked_of, blocked_row, verdict_of, verdict_row
from services.moderation.tables import BLOCKED_HASHES, BLOCKLIST_VERSION, OUTBOX, VERDICTS
from services.moderation.verdicts import Verdict

Announce = Callable[[Verdict], Sequence[Event]]


_CLOCK = sa.select(now_us(), BLOCKLIST_VERSION.c.version).where(BLOCKLIST_VERSION.c.id == 1)
_CLOCK_LOCKED = _CLOCK.with_for_update(read=True)
_BY_ID = sa.select(VERDICTS).where(VERDICTS.c.verdict_id == sa.bindparam("wanted"))

REMEMBERED = 4_096  # verdicts; storage asks for each one right after it was given


class Store:
    """What moderation keeps. Every method is one transaction.

    A verdict never changes once it is stored, so the newest ones are remembered.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._recent: OrderedDict[str, Verdict] = OrderedDict()

    async def record(
        self, verdict: Verdict, note: AuditNote, announce: Announce, table_version: int | None = None
    ) -> Verdict | None:
        """Stores the verdict, its audit record and its events, and returns the verdict as stored.

        A verdict id that is stored already keeps its first row, which is returned. None when `table_version` is given
        and the table of blocked pictures has another version by now: the verdict must be given anew.
        """
        stored = await self._database.write(lambda c: _record(c, verdict, note, announce, table_version))
        if stored is not None:
            self._remember(stored)
        return stored

    async def verdict(self, verdict_id: str, tenant: str) -> Verdict | None:
        """The verdict, if it is the tenant's; an empty tenant sees all."""
        found = self._recent.get(verdict_id)
        if found is None:
            found = await self._database.read(lambda connection: _verdict(connection, verdict_id))
        return found if found is not None and tenant in ("", found.subject.tenant) else None

    async def hash_table(self) -> HashTable:
        """All blocked pictures."""
        return await self._database.read(_hash_table)

    async def block(self, entries: Sequence[BlockedHash], source: str) -> int:
        """Adds blocked pictures; tells how many were new. Verdicts in flight are given anew."""
        return await self._database.write(lambda connection: _block(connection, entries, source))

    def _remember(self, verdict: Verdict) -> None:
        self._recent[verdict.verdict_id] = verdict
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)


def _record(
    connection: sa.Connection, verdict: Verdict, note: AuditNote, announce: Announce, table_version: int | None
) -> Verdict | None:
    now, version = _now_and_version(connection, lock=table_version is not None)
    if table_version is not None and table_version != version:
        return None
    stamped = replace(verdict, create_us=now)
    if not insert_or_ignore(connection, VERDICTS, verdict_row(stamped)):
        first = _verdict(connection, verdict.verdict_id)
        return first if first is not None and first.subject.tenant == verdict.subject.tenant else None
    for event in announce(stamped):
        append(connection, OUTBOX, event)
    record_audit(connection, audit_entry(stamped, note))
    return stamped


def _now_and_version(connection: sa.Connection, lock: bool) -> tuple[int, int]:
    """The database's clock and the version of the blocked pictures, which with `lock` stays until the commit."""
    row = connection.execute(_CLOCK_LOCKED if lock else _CLOCK).one()
    return int(row[0]), int(row[1])


def _verdict(connection: sa.Connection, verdict_id: str) -> Verdict | None:
    row = connection.execute(_BY_ID, {"wanted": verdict_id}).mappings().one_or_none()
    return None if row is None else verdict_of(row)  # type: ignore[arg-type]  # keys are column names


def _hash_table(connection: sa.Connection) -> HashTable:
    # The version first: entries that come in between make the table newer than it says, never older.
    version = connection.execute(sa.select(BLOCKLIST_VERSION.c.version)).scalar_one()
    rows = connection.execute(sa.select(BLOCKED_HASHES)).mappings()
    return HashTable(version, [blocked_of(row) for row in rows])  # type: ignore[arg-type]  # keys are column names


def _block(connection: sa.Connection, entries: Sequence[BlockedHash], source: str) -> int:
    now, _ = _now_and_version(connection, lock=False)
    rows = [{**blocked_row(entry, source), "create_us": now} for entry in entries]
    added = sum(insert_or_ignore(connection, BLOCKED_HASHES, row) for row in rows)
    if added:
        raised = sa.update(BLOCKLIST_VERSION).values(version=BLOCKLIST_VERSION.c.version + 1)
        connection.execute(raised)
    return added
