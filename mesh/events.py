"""NATS: durable events on JetStream, and signals on core NATS that may be lost.

Events are CloudEvents in the NATS protocol binding's binary mode: the attributes are headers (`ce-id`, `ce-type`, …)
and the payload is the protobuf message. They go to `imagemesh.<type>.<tenant>.<id>`, at least once, with `Nats-Msg-Id`
for deduplication. Nothing in the mesh depends on NATS being up: publishers are relays of an outbox, and every listener
to a signal also polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError
from nats.js.api import StreamConfig
from nats.js.errors import NoStreamResponseError, NotFoundError

from mesh.errors import Unavailable
from mesh.process import Background
from mesh.telemetry import logger

STREAM = "IMAGEMESH"
EVENT_SUBJECTS = "imagemesh.*.*.*"
SIGNAL_PREFIX = "imagemesh-signal."
STREAM_LIMIT_BYTES = 1024**3
STREAM_MAX_AGE_S = 7 * 24 * 3600
DEDUPLICATION_S = 600
PUBLISH_TIMEOUT_S = 5.0

log = logger(__name__)
OnSignal = Callable[[str, bytes], Awaitable[None]]


@dataclass(frozen=True)
class Event:
    """One fact to tell the world.

    id: unique per fact; repeats are dropped by the stream. type: message name in imagemesh.events.v1. subject_id: the
    job, asset or key it is about. version: of that thing, 0 when it has none. data: the serialized message.
    """

    id: str
    type: str
    tenant: str
    subject_id: str
    data: bytes
    version: int = 0
    time_us: int = 0
    traceparent: str = ""
    tracestate: str = ""

    @property
    def subject(self) -> str:
        """The NATS subject."""
        return f"imagemesh.{self.type}.{self.tenant}.{self.subject_id}"

    def headers(self) -> dict[str, str]:
        """CloudEvents attributes and the trace context."""
        time = datetime.fromtimestamp(self.time_us / 1e6, UTC).isoformat().replace("+00:00", "Z")
        headers = {
            "Nats-Msg-Id": self.id,
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": f"imagemesh.events.v1.{self.type}",
            "ce-source": "imagemesh",
            "ce-subject": self.subject_id,
            "ce-time": time,
            "ce-tenant": self.tenant,
            "ce-subjectversion": str(self.version),
            "content-type": "application/protobuf",
        }
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        if self.tracestate:
            headers["tracestate"] = self.tracestate
        return headers


@dataclass(frozen=True)
class BusConfig:
    """urls: comma-separated NATS servers. name: shown in the server's connection list. replicas: of the stream."""

    urls: str
    name: str
    replicas: int = 1


class Subscription:
    """A wish to hear a signal; it survives reconnects. `close` may be called twice."""

    def __init__(self, bus: Bus, subject: str, callback: OnSignal) -> None:
        self._bus = bus
        self.subject = subject
        self._callback = callback
        self._inner: NatsSubscription | None = None
        self._attached = False

    async def attach(self, client: Client) -> None:
        """Subscribes on the connection, once; called by the bus."""
        if self._attached:
            return
        self._attached = True
        self._inner = await client.subscribe(SIGNAL_PREFIX + self.subject, cb=self._on_message)

    async def close(self) -> None:
        """Stops listening."""
        self._bus.forget(self)
        inner, self._inner = self._inner, None
        if inner is not None and self._bus.connected:
            await inner.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        await self._callback(message.subject.removeprefix(SIGNAL_PREFIX), message.data)


class Bus:
    """The connection to NATS. It is made in the background and remade for ever."""

    def __init__(self, config: BusConfig) -> None:
        self._config = config
        self._client = Client()
        self._stream = self._client.jetstream()
        self._subscriptions: set[Subscription] = set()
        self._connecting = Background("nats-connect", self._connect)
        self._has_stream = False
        self._dialled = False

    @property
    def connected(self) -> bool:
        """True while the connection stands."""
        return self._client.is_connected

    async def start(self) -> None:
        """Begins to connect and returns at once."""
        self._connecting.start()

    async def stop(self) -> None:
        """Sends what is buffered and disconnects; may be called twice, and before `start`."""
        await self._connecting.stop()
        if self._client.is_connected:
            try:
                await asyncio.wait_for(self._client.drain(), timeout=5)
            except (TimeoutError, NatsError):
                log.warning("nats did not drain in time")
        if self._dialled and not self._client.is_closed:
            await self._client.close()

    async def ping(self) -> None:
        """Raises Unavailable while disconnected."""
        if not self.connected:
            raise Unavailable("NATS is not connected", metadata={"peer": "nats"})

    async def signal(self, subject: str, payload: bytes = b"") -> None:
        """Tells whoever listens now; dropped while disconnected."""
        if not self.connected:
            return
        try:
            await self._client.publish(SIGNAL_PREFIX + subject, payload)
        except NatsError:
            log.debug("signal dropped", subject=subject)

    async def on_signal(self, subject: str, callback: OnSignal) -> Subscription:
        """Calls `callback(subject, payload)` for each signal; `subject` may hold NATS wildcards."""
        subscription = Subscription(self, subject, callback)
        self._subscriptions.add(subscription)
        if self.connected:
            await subscription.attach(self._client)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Drops the wish; called by `Subscription.close`."""
        self._subscriptions.discard(subscription)

    async def publish(self, event: Event) -> None:
        """Stores the event in the stream and waits for the acknowledgement; Unavailable when that fails."""
        await self.ping()
        try:
            await self._ensure_stream()
            await self._stream.publish(event.subject, event.data, timeout=PUBLISH_TIMEOUT_S, headers=event.headers())
        except (NatsError, TimeoutError) as error:
            self._has_stream = not isinstance(error, NoStreamResponseError)
            raise Unavailable("NATS did not take the event", metadata={"peer": "nats"}) from error

    async def newest(self, subject: str) -> bytes | None:
        """The data of the newest event of the subject that the stream still holds; Unavailable without an answer."""
        await self.ping()
        try:
            found = await asyncio.wait_for(self._stream.get_last_msg(STREAM, subject), PUBLISH_TIMEOUT_S)
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise Unavailable("NATS did not tell the newest event", metadata={"peer": "nats"}) from error
        return found.data or b""

    async def _ensure_stream(self) -> None:
        if self._has_stream:
            return
        config = StreamConfig(
            name=STREAM,
            subjects=[EVENT_SUBJECTS],
            max_bytes=STREAM_LIMIT_BYTES,
            max_age=STREAM_MAX_AGE_S,
            duplicate_window=DEDUPLICATION_S,
            num_replicas=self._config.replicas,
        )
        await self._stream.add_stream(config)
        self._has_stream = True

    async def _connect(self) -> None:
        self._dialled = True
        await self._client.connect(
            servers=self._config.urls.split(","),
            name=self._config.name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,  # seconds; the client takes whole ones
            connect_timeout=2,
            ping_interval=10,
            error_cb=_on_error,
            disconnected_cb=self._on_disconnected,
        )
        for subscription in tuple(self._subscriptions):
            await subscription.attach(self._client)
        log.info("nats connected")

    async def _on_disconnected(self) -> None:
        self._has_stream = False
        log.warning("nats disconnected")


async def _on_error(error: Exception) -> None:
    log.debug("nats error", error=str(error))


__all__ = ["Bus", "BusConfig", "Event", "Subscription"]
