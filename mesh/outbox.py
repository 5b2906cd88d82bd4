"""The outbox: events are rows written in the same transaction as the fact, and a relay publishes them afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from mesh.db import Database
from mesh.errors import Unavailable
from mesh.events import Bus, Event
from mesh.process import Background
from mesh.telemetry import logger

BATCH = 256
POLL_SECONDS = 1.0
GATHER_SECONDS = 0.2  # the first event goes out at once; those that follow share a read, a round trip and a delete

log = logger(__name__)
Row = sa.Row[Any]


def outbox_table(metadata: sa.MetaData) -> sa.Table:
    """The table `outbox`; each owner of SQL truth has a database (or schema) of its own, and one outbox in it."""
    return sa.Table(
        "outbox",
        metadata,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("tracestate", sa.String(512), nullable=False),
    )


def append(connection: sa.Connection, table: sa.Table, event: Event) -> None:
    """Adds the event to the running transaction."""
    connection.execute(
        _insert(table),
        {
            "id": event.id,
            "type": event.type,
            "tenant": event.tenant,
            "subject_id": event.subject_id,
            "version": event.version,
            "time_us": event.time_us,
            "data": event.data,
            "traceparent": event.traceparent,
            "tracestate": event.tracestate,
        },
    )


@lru_cache(maxsize=8)
def _insert(table: sa.Table) -> sa.Insert:
    """Kept, since putting a statement together costs more than running it."""
    return sa.insert(table)


class Relay:
    """Publishes outbox rows and deletes them; waits while NATS is away.

    Events about one thing go out in the order they were written, events about different things at once. Several relays
    may work on one table: an event may then be published twice, and the stream drops the repeat.
    """

    def __init__(self, database: Database, table: sa.Table, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._oldest = sa.select(table).order_by(table.c.seq).limit(BATCH)
        self._delete = sa.delete(table).where(table.c.seq.in_(sa.bindparam("done", expanding=True)))
        self._wake = asyncio.Event()
        self._background = Background("outbox-relay", self._run)

    async def start(self) -> None:
        """Begins to publish."""
        self._background.start()

    async def stop(self) -> None:
        """Stops after the call in flight; rows left over wait for the next start."""
        await self._background.stop()

    def wake(self) -> None:
        """Says that a row was written; without it the relay looks once a second."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            more = await self._relay_batch()
            if not more:
                await asyncio.sleep(GATHER_SECONDS)
                await _wait(self._wake, POLL_SECONDS)

    async def _relay_batch(self) -> bool:
        """Publishes up to one batch; tells whether to come back at once."""
        if not self._bus.connected:
            return False
        try:
            rows = await self._database.read(lambda connection: connection.execute(self._oldest).all(), brief=True)
            published = await asyncio.gather(*(self._publish_in_turn(line) for line in _by_subject(rows)))
            done = [seq for line in published for seq in line]
            if done:
                await self._database.write(
                    lambda connection: connection.execute(self._delete, {"done": done}), brief=True
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the rows are kept and the next look may work
            log.warning("outbox waits", error=type(error).__name__)
            return False
        return len(done) == BATCH

    async def _publish_in_turn(self, rows: Sequence[Row]) -> list[int]:
        """The rows that NATS took; those behind one that it did not take stay with it."""
        done = []
        for row in rows:
            if not await self._publish(row):
                break
            done.append(int(row.seq))
        return done

    async def _publish(self, row: Row) -> bool:
        values = dict(row._mapping)
        values.pop("seq")
        try:
            await self._bus.publish(Event(**values))  # the columns are the event's fields
        except Unavailable as error:
            log.debug("event not taken yet", event_id=row.id, reason=error.message)
            return False
        return True


def _by_subject(rows: Sequence[Row]) -> list[list[Row]]:
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.subject_id, []).append(row)
    return list(lines.values())


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
