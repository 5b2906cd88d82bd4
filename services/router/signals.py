"""Signals between processes: told in the background, heard by whoever listens, never needed."""

from __future__ import annotations

import asyncio
import contextlib

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import breaker_pb2
from imagemesh.router.v1 import catalog_pb2

from mesh.events import Bus
from mesh.process import Background
from services.router.breaker import BreakerKey, Breakers, BreakerState, Clock

BREAKER = "breaker."


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


class BreakerTalk:
    """Tells peers when a breaker of this worker opens or closes, and opens ours when one of theirs does."""

    def __init__(self, teller: Teller, now: Clock) -> None:
        """`now`: seconds since 1970, the same for every worker."""
        self._teller = teller
        self._now = now

    def changed(self, key: BreakerKey, state: BreakerState, seconds: float) -> None:
        """A call of ours changed a breaker; while open it stays so for `seconds`."""
        message = breaker_pb2.BreakerChanged(
            provider=key.provider,
            model=key.model,
            state=catalog_pb2.BreakerState.Value(f"BREAKER_STATE_{state}"),
            change_time=_timestamp(self._now()),
            retry_time=_timestamp(self._now() + seconds) if state is BreakerState.OPEN else None,
        )
        self._teller.tell(BREAKER + key.provider, message.SerializeToString())

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
