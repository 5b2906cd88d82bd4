"""Events through a real nats-server: nothing is lost while it is away, and a repeat is dropped."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mesh.db import Database, DatabaseConfig, open_database
from mesh.events import STREAM, Bus, BusConfig, Event
from mesh.outbox import Relay, append, outbox_table
from tests.conftest import NatsServer

METADATA = sa.MetaData()
OUTBOX = outbox_table(METADATA)


def event(n: int) -> Event:
    return Event(id=f"evt_{n}", type="JobQueued", tenant="acme", subject_id=f"job_{n}", data=b"payload", version=n)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = open_database(DatabaseConfig(f"sqlite:///{tmp_path / 'truth.db'}"))
    await database.write(METADATA.create_all)
    yield database
    await database.close()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    bus = Bus(BusConfig(nats_server.url, "tests"))
    await bus.start()
    yield bus
    await bus.stop()


async def left(database: Database) -> int:
    return await database.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(OUTBOX)).scalar_one())


async def until_empty(database: Database) -> None:
    async with asyncio.timeout(30):
        while await left(database):
            await asyncio.sleep(0.02)


async def messages(bus: Bus) -> int:
    info = await bus._client.jetstream().stream_info(STREAM)
    return int(info.state.messages)


async def test_events_written_while_nats_is_away_arrive_later(
    database: Database, nats_server: NatsServer, bus: Bus
) -> None:
    relay = Relay(database, OUTBOX, bus)
    await relay.start()
    await nats_server.kill()
    for n in range(20):
        await database.write(lambda c, n=n: append(c, OUTBOX, event(n)))
    relay.wake()
    assert await left(database) == 20
    await nats_server.start()
    await until_empty(database)
    assert await messages(bus) == 20
    await relay.stop()


async def test_a_repeat_is_dropped_by_its_id(database: Database, bus: Bus) -> None:
    relay = Relay(database, OUTBOX, bus)
    await relay.start()
    for _ in range(3):
        await database.write(lambda c: append(c, OUTBOX, event(1)))
    relay.wake()
    await until_empty(database)
    assert await messages(bus) == 1
    await relay.stop()


async def test_signals_reach_listeners_again_after_a_restart(nats_server: NatsServer, bus: Bus) -> None:
    heard = asyncio.Event()

    async def hear(subject: str, payload: bytes) -> None:
        if (subject, payload) == ("jobs.wake", b"x"):
            heard.set()

    await bus.on_signal("jobs.*", hear)
    for _ in range(2):
        heard.clear()
        async with asyncio.timeout(30):
            while not heard.is_set():
                await bus.signal("jobs.wake", b"x")
                await asyncio.sleep(0.02)
        await nats_server.kill()
        await bus.signal("jobs.wake", b"dropped, not raised")
        await nats_server.start()


async def test_the_bus_starts_before_nats_does(nats_server: NatsServer) -> None:
    await nats_server.kill()
    bus = Bus(BusConfig(nats_server.url, "early"))
    await bus.start()
    assert not bus.connected
    await nats_server.start()
    async with asyncio.timeout(30):
        while not bus.connected:
            await asyncio.sleep(0.02)
    await bus.stop()
    await bus.stop()


class Whole:
    """A bus that takes everything."""

    connected = True

    async def publish(self, _event: Event) -> None:
        """Takes it."""


class Faulty:
    """A database whose first reads fail in ways that nobody foresaw."""

    def __init__(self, inner: Database) -> None:
        self.faults = [sa.exc.ProgrammingError("read-only", None, Exception()), OSError("gone")]
        self.write = inner.write
        self._inner = inner

    async def read(self, work: Any, *, brief: bool = False) -> Any:
        if self.faults:
            raise self.faults.pop()
        return await self._inner.read(work, brief=brief)


async def test_no_fault_of_the_database_ends_the_relay(database: Database) -> None:
    relay = Relay(Faulty(database), OUTBOX, Whole())  # type: ignore[arg-type]
    await database.write(lambda c: append(c, OUTBOX, event(1)))
    await relay.start()
    await until_empty(database)
    await relay.stop()


async def test_events_about_one_thing_arrive_in_the_order_of_writing(database: Database, bus: Bus) -> None:
    written = [(subject, n) for n in range(20) for subject in ("job_a", "job_b")]
    for subject, n in written:
        about = Event(id=f"{subject}-{n}", type="JobQueued", tenant="acme", subject_id=subject, data=b"", version=n)
        await database.write(lambda c, about=about: append(c, OUTBOX, about))
    relay = Relay(database, OUTBOX, bus)
    await relay.start()
    await until_empty(database)
    stream = bus._client.jetstream()
    told = [await stream.get_msg(STREAM, seq) for seq in range(1, len(written) + 1)]
    for subject in ("job_a", "job_b"):
        ids = [m.headers["ce-id"] for m in told if m.headers and m.subject.endswith(subject)]
        assert ids == [f"{subject}-{n}" for n in range(20)]
    await relay.stop()
