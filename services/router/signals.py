"""Signals between processes: told in the background, heard by whoever listens, never needed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import breaker_pb2
from imagemesh.router.v1 import catalog_pb2
from sqlalchemy.exc import SQLAlchemyError

from mesh import outbox
from mesh.db import Database
from mesh.errors import MeshError
from mesh.events import Bus, Event
from mesh.ids import derived_id, new_id
from mesh.process import Background
from mesh.telemetry import logger
from services.router.breaker import BreakerKey, Breakers, BreakerState, Clock
from services.router.tables import outbox as rows

BREAKER = "breaker."
BEGUN = b" begun"
"""What follows the version in the signal of a job that a worker has just taken."""
MESH = "mesh"
"""The tenant of events that concern every tenant."""

log = logger(__name__)


class Teller:
    """Sends signals in the background, one after another; what a slow bus cannot take is dropped."""

    def __init__(self, bus: Bus, most: int = 10_000) -> None:
        self._bus = bus
        self._waiting: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(most)
        self._sending = Background("signals", self._send)

    def start(self) -> None:
        """Begin to send."""
        self._sending.start()

    async def stop(self) -> None:
        """Send what waits, then stop."""
        while not self._waiting.empty():
            await self._bus.signal(*self._waiting.get_nowait())
        await self._sending.stop()

    def tell(self, subject: str, payload: bytes) -> None:
        """Send soon."""
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait((subject, payload))

    async def _send(self) -> None:
        while True:
            await self._bus.signal(*await self._waiting.get())


def _nobody(_event: Event) -> None:
    """Nobody publishes."""


class EventWriter:
    """Writes events that belong to no job into the outbox, in the background; what a slow database cannot take is
    dropped and logged, for the state they tell of is told again with every change."""

    def __init__(self, database: Database, most: int = 1_000) -> None:
        self._database = database
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(most)

    def put(self, event: Event) -> None:
        """Write soon."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("event dropped", type=event.type)

    async def write(self) -> None:
        """Writes for ever."""
        while True:
            event = await self._waiting.get()
            try:
                await self._write(event)
            except (MeshError, SQLAlchemyError) as error:
                log.warning("event dropped", type=event.type, reason=type(error).__name__)

    async def _write(self, event: Event) -> None:
        await self._database.write(lambda connection: outbox.append(connection, rows, event), brief=True)


def _event(message: breaker_pb2.BreakerChanged, payload: bytes) -> Event:
    """BreakerChanged concerns every tenant: it is filed under `mesh`."""
    subject = derived_id("brk", message.provider, message.model)
    changed = message.change_time.ToMicroseconds()
    event_id = derived_id("evt", subject, str(changed), new_id("evt"))
    return Event(event_id, "BreakerChanged", MESH, subject, payload, time_us=changed)


class BreakerTalk:
    """Tells peers when a breaker of this worker opens or closes, and opens ours when one of theirs does."""

    def __init__(self, teller: Teller, now: Clock, publish: Callable[[Event], None] = _nobody) -> None:
        """`now`: seconds since 1970, the same for every worker. `publish` takes the event and returns at once."""
        self._teller = teller
        self._now = now
        self._publish = publish

    def changed(self, key: BreakerKey, state: BreakerState, seconds: float, reason: str = "") -> None:
        """We changed a breaker; while open it stays so for `seconds`. The event says so to the world as well."""
        message = breaker_pb2.BreakerChanged(
            provider=key.provider,
            model=key.model,
            state=catalog_pb2.BreakerState.Value(f"BREAKER_STATE_{state}"),
            reason=reason,
            change_time=_timestamp(self._now()),
            retry_time=_timestamp(self._now() + seconds) if state is BreakerState.OPEN else None,
        )
        payload = message.SerializeToString()
        self._teller.tell(BREAKER + key.provider, payload)
        self._publish(_event(message, payload))

    def heard(self, breakers: Breakers, payload: bytes) -> None:
        """A peer's breaker changed; only openings count, and only until they were said to end."""
        try:
            message = breaker_pb2.BreakerChanged.FromString(payload)
        except DecodeError:
            return
        left = message.retry_time.ToNanoseconds() / 1e9 - self._now()
        if message.state == catalog_pb2.BREAKER_STATE_OPEN and left > 0:
            breakers.peer_opened(BreakerKey(message.provider, message.model), left)


def _timestamp(seconds: float) -> Timestamp:
    moment = Timestamp()
    moment.FromNanoseconds(int(seconds * 1e9))
    return moment
