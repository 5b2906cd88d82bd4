"""How the launcher knows that a process is ready. A check answers at once; it never waits for readiness itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2

from deploy.local.ports import HOST

ANSWER_SECONDS = 2.0
# Without a pool of its own, a channel would share the reconnect backoff of the last refused one.
FRESH_CHANNEL = (("grpc.use_local_subchannel_pool", 1),)


class Check(Protocol):
    """Whether a process can do its work now."""

    async def ready(self) -> bool:
        """False when it does not answer yet; never raises for that."""
        ...


@dataclass(frozen=True)
class GrpcReady:
    """Health v1 says SERVING for `service`."""

    port: int
    service: str = "readiness"

    async def ready(self) -> bool:
        """Asks only once something listens, because a refused gRPC channel costs far more than a refused socket."""
        return await _listens(self.port) and await self._serving()

    async def _serving(self) -> bool:
        async with grpc.aio.insecure_channel(f"{HOST}:{self.port}", options=FRESH_CHANNEL) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = await check(health_pb2.HealthCheckRequest(service=self.service), timeout=ANSWER_SECONDS)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@dataclass(frozen=True)
class NatsReady:
    """nats-server greets, and JetStream is on."""

    port: int

    async def ready(self) -> bool:
        """Reads the INFO line that the server sends first."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                greeting = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return _jetstream(greeting)


@dataclass(frozen=True)
class Listens:
    """Something accepts TCP connections."""

    port: int

    async def ready(self) -> bool:
        """Connects and hangs up."""
        return await _listens(self.port)


def _jetstream(greeting: bytes) -> bool:
    verb, _, document = greeting.partition(b" ")
    try:
        return verb == b"INFO" and json.loads(document).get("jetstream") is True
    except ValueError:
        return False


async def _listens(port: int) -> bool:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(HOST, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
