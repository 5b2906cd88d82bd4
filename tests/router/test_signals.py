"""Breakers talk: what one worker learns by failing, its peers are told, for a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from imagemesh.events.v1 import breaker_pb2

from mesh.events import Event
from services.router.breaker import BreakerConfig, BreakerKey, Breakers, BreakerState
from services.router.signals import BreakerTalk, EventWriter
from services.router.tables import outbox
from tests.router.rig import Clock
from tests.router.stores import Stores

KEY = BreakerKey("one", "m")


class Tells:
    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []

    def tell(self, subject: str, payload: bytes) -> None:
        self.told.append((subject, payload))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opening(clock: Clock, seconds: float) -> bytes:
    tells: Any = Tells()
    BreakerTalk(tells, clock).changed(KEY, BreakerState.OPEN, seconds)
    ((subject, payload),) = tells.told
    assert subject == "breaker.one"
    return bytes(payload)


def test_an_opening_opens_the_peers_as_long(clock: Clock) -> None:
    payload = opening(clock, 8.0)
    breakers, tells = Breakers(BreakerConfig(), clock), Tells()
    talk = BreakerTalk(tells, clock)  # type: ignore[arg-type]
    clock.now += 3.0
    talk.heard(breakers, payload)
    assert breakers.wait(KEY) == pytest.approx(5.0)
    assert tells.told == []  # what was heard is not told on


@pytest.mark.parametrize("late", [8.0, 100.0])
def test_a_late_opening_is_over(clock: Clock, late: float) -> None:
    payload = opening(clock, 8.0)
    breakers = Breakers(BreakerConfig(), clock)
    clock.now += late
    BreakerTalk(Tells(), clock).heard(breakers, payload)  # type: ignore[arg-type]
    assert breakers.wait(KEY) == 0.0


@pytest.mark.parametrize("payload", [b"", b"\xff\xff garbage"])
def test_garbage_is_not_heard(clock: Clock, payload: bytes) -> None:
    breakers = Breakers(BreakerConfig(), clock)
    BreakerTalk(Tells(), clock).heard(breakers, payload)  # type: ignore[arg-type]
    assert breakers.states() == {}


async def test_a_change_is_an_event_as_well(stores: Stores) -> None:
    writer = EventWriter(stores.database)
    writing = asyncio.create_task(writer.write())
    tells: Any = Tells()
    BreakerTalk(tells, lambda: 1000.0, writer.put).changed(KEY, BreakerState.OPEN, 5.0, "degraded: blank")
    async with asyncio.timeout(10):
        while not (rows := await stores.rows(outbox)):
            await asyncio.sleep(0)
    writing.cancel()
    (row,) = rows
    message = breaker_pb2.BreakerChanged.FromString(row.data)
    assert (row.type, row.tenant, message.reason) == ("BreakerChanged", "mesh", "degraded: blank")
    assert "." not in row.subject_id  # one token of a NATS subject


async def test_an_event_that_the_database_refuses_stops_no_other(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, refused = EventWriter(stores.database), [1]
    write = writer._write

    async def refuse_once(event: Event) -> None:
        if refused:
            refused.pop()
            raise sa.exc.DataError("INSERT", {}, Exception("too long"))
        await write(event)

    monkeypatch.setattr(writer, "_write", refuse_once)
    writing = asyncio.create_task(writer.write())
    for reason in ("first", "second"):
        BreakerTalk(Tells(), lambda: 1000.0, writer.put).changed(KEY, BreakerState.OPEN, 5.0, reason)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while not (rows := await stores.rows(outbox)) and not writing.done():
            await asyncio.sleep(0)
    writing.cancel()
    assert [breaker_pb2.BreakerChanged.FromString(row.data).reason for row in rows] == ["second"]
