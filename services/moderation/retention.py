"""Removes from the audit what its policies no longer keep.

Two terms: when the retention of a record's own tenant has ended, its personal part is emptied, as an erasure; when the
longest retention of all has ended, whole records are removed, from the oldest up to a checkpoint that every place
holds. The sweep is itself a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import Database
from mesh.telemetry import logger
from services.moderation.audit import AuditEntry, record
from services.moderation.audit_store import AuditReader, locked_head
from services.moderation.audit_tables import AUDIT_CHECKPOINTS, AUDIT_HEAD, AUDIT_RECORDS
from services.moderation.checkpoints import CheckpointStore
from services.moderation.emptying import Emptying
from services.moderation.policies import Policy
from services.moderation.retiring import retire

EVERY_S = 3_600.0
DAY_US = 86_400_000_000
BATCH = 2_000
ACTOR = "retention"
C, K, H = AUDIT_RECORDS.c, AUDIT_CHECKPOINTS.c, AUDIT_HEAD.c

log = logger(__name__)


@dataclass(frozen=True)
class Retention:
    """Days that records are kept: of all tenants without an entry in `tenants`, and of those with one."""

    default: int
    tenants: Mapping[str, int]

    @property
    def longest(self) -> int:
        """After so many days nobody keeps a record."""
        return max(self.default, *self.tenants.values()) if self.tenants else self.default


def retention_of(policies: Iterable[Policy]) -> Retention:
    """The terms that the policies set."""
    days = {policy.document.tenant: policy.document.retention_days for policy in policies}
    return Retention(days.pop(""), days)


class RetentionSweeper:
    """Sweeps every hour. retention: asked for at each sweep, since policies change."""

    def __init__(self, database: Database, store: CheckpointStore | None, retention: Callable[[], Retention]) -> None:
        self._database = database
        self._reader = AuditReader(database)
        self._emptying = Emptying(database)
        self._store = store
        self._retention = retention

    async def run(self) -> None:
        """Sweeps for ever; what fails is tried again an hour later."""
        while True:
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001 - whatever it is, the records are kept and the next turn may work
                log.warning("sweeping the audit waits", error=type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> int:
        """One sweep; the sequence up to which records are gone now."""
        retention, now = self._retention(), await self._reader.now()
        await self._retire(retention, now)
        for tenant, days in retention.tenants.items():
            if days < retention.longest:  # what is kept longest is removed whole, below
                await self._empty(C.tenant == tenant, now - days * DAY_US, tenant)
        if retention.default < retention.longest:
            await self._empty(C.tenant.not_in(list(retention.tenants)), now - retention.default * DAY_US, "")
        await self._database.write(lambda c: _cut(c, now - retention.longest * DAY_US, self._store is not None))
        cut = (await self._reader.head()).cut_sequence
        await self._remove(cut)
        return cut

    async def _retire(self, retention: Retention, now: int) -> None:
        """What is kept of persons outside the audit: words of reviewers, of appeals and reports, and who they are."""
        for tenant, days in retention.tenants.items():
            await retire(self._database, (tenant,), now - days * DAY_US)
        await retire(self._database, tuple(retention.tenants), now - retention.default * DAY_US, others=True)

    async def _empty(self, whose: sa.ColumnElement[bool], before_us: int, tenant: str) -> None:
        """Empties up to the newest checkpoint that is old enough, since checkpoints tell times without a search."""
        newest = sa.select(sa.func.max(K.sequence)).where(K.create_us < before_us)
        last = await self._database.read(lambda connection: connection.execute(newest).scalar_one())
        if last is not None:
            personal = sa.or_(C.end_user != "", C.text != "", C.note != "")
            entry = AuditEntry(action="ERASED", tenant=tenant, actor=ACTOR)
            await self._emptying.where(sa.and_(whose, C.sequence <= last, personal), entry)

    async def _remove(self, cut: int) -> None:
        """Deletes what lies before the cut, in batches; a sweep that was killed is finished by the next."""
        if cut == 0:
            return
        while await self._database.write(lambda connection: _delete(connection, cut)):
            pass
        while self._store is not None:
            old = [found for found in await self._store.after(None) if found.sequence < cut]
            for checkpoint in old:
                await self._store.delete(checkpoint)
            if not old:
                return


def _cut(connection: sa.Connection, before_us: int, stored_only: bool) -> None:
    """Moves the chain's beginning to the newest checkpoint older than `before_us`, and records that."""
    locked_head(connection)
    already = connection.execute(sa.select(H.cut_sequence).where(H.id == 1)).scalar_one()
    old = sa.select(K.sequence, K.chain).where(K.create_us < before_us, K.sequence > already)
    if stored_only:
        old = old.where(K.stored == 1)
    place = connection.execute(old.order_by(K.sequence.desc()).limit(1)).one_or_none()
    if place is None:
        return
    by = record(connection, AuditEntry(action="SWEPT", tenant="", actor=ACTOR, length=int(place[0])))
    values = {"cut_sequence": int(place[0]), "cut_chain": place[1], "cut_by": by}
    connection.execute(sa.update(AUDIT_HEAD).where(H.id == 1).values(**values))


def _delete(connection: sa.Connection, cut: int) -> int:
    """One batch of the records up to the cut and of the checkpoints before it; how many went."""
    old = sa.select(C.sequence).where(C.sequence <= cut).order_by(C.sequence).limit(BATCH)
    gone = connection.execute(sa.delete(AUDIT_RECORDS).where(C.sequence.in_(old))).rowcount
    passed = sa.select(K.sequence).where(K.sequence < cut).order_by(K.sequence).limit(BATCH)
    return gone + connection.execute(sa.delete(AUDIT_CHECKPOINTS).where(K.sequence.in_(passed))).rowcount
