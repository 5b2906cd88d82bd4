"""Whatever is appended, erased, checkpointed and swept in whatever order: it is intact, and one change is found."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.db import Database
from mesh.events import Bus, BusConfig
from services.moderation.audit import record
from services.moderation.audit_parts import Audit
from services.moderation.audit_store import AuditReader
from services.moderation.audit_tables import AUDIT_HEAD
from services.moderation.chain import GENESIS
from services.moderation.checkpoints import Checkpoint
from services.moderation.checkpoints.base import name_of
from services.moderation.policy_changes import Who
from services.moderation.retention import DAY_US, Retention
from services.moderation.tables import METADATA
from tests.moderation.audit_rig import NO_BUS, entry

USERS = st.sampled_from(["ann", "bob", ""])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), USERS),
        st.tuples(st.just("erase"), USERS.filter(bool)),
        st.tuples(st.just("checkpoint"), st.just("")),
        st.tuples(st.just("sweep"), st.just("")),
    ),
    max_size=30,
)
CHANGES = {
    "decision": "'FLAG'",
    "actor": "'somebody'",
    "length": "length + 1",
    "chain": "digest",
    "text": "text || '!'",
}
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class InMemory(Database):
    """Runs everything at once, on a database that is gone afterwards."""

    dialect = "sqlite"

    def __init__(self) -> None:
        self._engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        with self._engine.begin() as connection:
            METADATA.create_all(connection)
            zero = {"id": 1, "sequence": 0, "chain": GENESIS, "cut_sequence": 0, "cut_chain": GENESIS, "cut_by": 0}
            connection.execute(sa.insert(AUDIT_HEAD), zero)

    async def read(self, work: Any, *, brief: bool = False) -> Any:
        return await self.write(work)

    async def write(self, work: Any, *, brief: bool = False) -> Any:
        with self._engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        self._engine.dispose()


class Shelf:
    """A store of checkpoints that forgets nothing."""

    def __init__(self) -> None:
        self.held: dict[str, Checkpoint] = {}

    async def put(self, checkpoint: Checkpoint) -> None:
        self.held[name_of(checkpoint)] = checkpoint

    async def after(self, previous: Checkpoint | None) -> list[Checkpoint]:
        return [self.held[name] for name in sorted(self.held) if previous is None or name > name_of(previous)]

    async def delete(self, checkpoint: Checkpoint) -> None:
        self.held.pop(name_of(checkpoint), None)

    async def close(self) -> None:
        return


class World:
    def __init__(self) -> None:
        self.database = InMemory()
        self.audit = Audit(self.database, Bus(BusConfig(NO_BUS, "tests")), Shelf(), lambda: Retention(365, {}))
        self.reader = AuditReader(self.database)

    async def play(self, steps: list[tuple[str, str]]) -> None:
        for number, (step, user) in enumerate(steps):
            if step == "append":
                await self.database.write(lambda c, n=number, u=user: record(c, entry(n, u)))
            elif step == "erase":
                await self.audit.erasure.user("acme", user, Who("operator", ""))
            elif step == "checkpoint":
                await self.audit.checkpointing.checkpoint()
            else:
                await self.sql(f"UPDATE audit_checkpoints SET create_us = create_us - {200 * DAY_US}")
                await self.audit.sweeper.sweep()

    async def sql(self, text: str) -> None:
        await self.database.write(lambda c: c.execute(sa.text(text)))

    async def rows(self) -> list[dict[str, Any]]:
        return await self.reader.span(0, 2**62, 10_000)


@FEW
@given(STEPS)
def test_what_is_done_through_the_door_leaves_it_intact(steps: list[tuple[str, str]]) -> None:
    async def play() -> None:
        world = World()
        await world.play(steps)
        report, head = await world.audit.verification.run(), await world.reader.head()
        assert report.broken is None
        rows = await world.rows()
        assert [row["sequence"] for row in rows] == list(range(head.cut_sequence + 1, head.sequence + 1))
        assert report.checked == len(rows)
        assert all(not row["end_user"] and not row["text"] for row in rows if row["erased_by"])

    asyncio.run(play())


@FEW
@given(STEPS, st.data())
def test_one_record_changed_or_removed_is_found_at_its_place(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    async def play() -> None:
        world = World()
        await world.play([*steps, ("append", "ann")])
        sequence = data.draw(st.sampled_from([row["sequence"] for row in await world.rows()]))
        column = data.draw(st.sampled_from([*CHANGES, ""]))
        change = f"UPDATE audit_records SET {column} = {CHANGES[column]}" if column else "DELETE FROM audit_records"
        await world.sql(f"{change} WHERE sequence = {sequence}")
        report = await world.audit.verification.run()
        assert report.broken is not None
        assert report.broken.sequence == sequence

    asyncio.run(play())
