"""The audit over a migrated database and a folder of checkpoints, without the service around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa

from mesh.db import Database, DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from services.moderation.__main__ import MIGRATIONS
from services.moderation.audit import AuditEntry, record
from services.moderation.audit_parts import Audit
from services.moderation.audit_store import AuditReader, Row
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.checkpoints.disk import DiskCheckpoints
from services.moderation.policy_changes import Who
from services.moderation.retention import Retention
from services.moderation.verification import Report
from tests.schemas import migrated

NO_BUS = "nats://127.0.0.1:1"


def entry(number: int, user: str = "ann", tenant: str = "acme") -> AuditEntry:
    """One record like those of prompts, told apart by its number."""
    return AuditEntry(
        action="PROMPT_JUDGED",
        tenant=tenant,
        actor="key_1",
        user=user,
        trace_id=f"{number:032x}",
        verdict_id=f"vrd_{number}",
        decision="BLOCK",
        scores=(("VIOLENCE", 0.1 + number / 7, "BLOCK"),),
        policy_id="default",
        policy_version=3,
        policy_etag="etag",
        model_versions=("rules@1",),
        sha256=f"{number:064x}",
        length=number,
        text=f"text number {number} é\0",
        note=f"note {number}",
    )


class Rig:
    def __init__(self, database: Database, folder: Path, bus: Bus) -> None:
        self.database = database
        self.bus = bus
        self.folder = folder
        self.days = Retention(365, {})
        self.store = DiskCheckpoints(folder)
        self.audit = Audit(database, bus, self.store, lambda: self.days)
        self.reader = AuditReader(database)

    async def append(self, count: int = 1, user: str = "ann") -> None:
        for _ in range(count):
            number = (await self.reader.head()).sequence + 1
            await self.database.write(lambda c, n=number: record(c, entry(n, user)))

    async def checkpoint(self) -> None:
        await self.audit.checkpointing.checkpoint()

    async def erase(self, user: str = "ann") -> int:
        return await self.audit.erasure.user("acme", user, Who("operator", ""))

    async def verify(self, first: int = 0) -> Report:
        return await self.audit.verification.run(first)

    async def broken(self) -> int:
        """The first broken sequence; 0 when intact."""
        report = await self.verify()
        return report.broken.sequence if report.broken else 0

    async def rows(self) -> list[Row]:
        return await self.reader.span(-(2**62), 2**62, 100_000)

    async def stored(self) -> list[int]:
        """The sequences of the checkpoints that lie in the folder."""
        return [found.sequence for found in await self.store.after(None)]

    async def sql(self, *statements: str) -> None:
        """What somebody with the database's password does."""
        for text in statements:
            await self.database.write(lambda c, text=text: c.execute(sa.text(text)))

    async def age(self, days: int, upto: int) -> None:
        """Moves the clock of checkpoints up to a sequence back; records keep theirs, since the chain covers it."""
        await self.sql(
            f"UPDATE audit_checkpoints SET create_us = create_us - {days * 86_400_000_000} WHERE sequence <= {upto}"
        )

    async def rewrite(self, first: int) -> None:
        """Hashes the chain anew from a record on, the head's row too, as a thorough forger would."""
        from services.moderation.chain import link, personal_digest, record_digest

        def work(connection: sa.Connection) -> None:
            c = AUDIT_RECORDS.c
            before = connection.execute(sa.select(c.chain).where(c.sequence == first - 1)).scalar_one()
            found = connection.execute(sa.select(AUDIT_RECORDS).where(c.sequence >= first).order_by(c.sequence))
            for row in [dict(row) for row in found.mappings()]:
                row["personal"] = row["personal"] if row["erased_by"] else personal_digest(row)
                row["digest"] = record_digest(row)
                row["chain"] = before = link(before, row["digest"])
                hashes = {name: row[name] for name in ("personal", "digest", "chain")}
                connection.execute(sa.update(AUDIT_RECORDS).where(c.sequence == row["sequence"]).values(**hashes))
            connection.execute(sa.text("UPDATE audit_head SET chain = :chain"), {"chain": before})

        await self.database.write(work)


@asynccontextmanager
async def rig(database_url: str, folder: Path, bus: Bus | None = None) -> AsyncIterator[Rig]:
    await migrated(database_url, MIGRATIONS)
    database = open_database(DatabaseConfig(database_url))
    made = Rig(database, folder, bus or Bus(BusConfig(NO_BUS, "tests")))
    yield made
    await made.store.close()
    await database.close()
