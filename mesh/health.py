"""Health v1: `liveness` (the loop turns), `readiness` and "" (own truth answers), and one name for each dependency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from mesh.errors import MeshError
from mesh.process import Background
from mesh.telemetry import logger

Check = Callable[[], Awaitable[None]]

INTERVAL_S = 1.0
TIMEOUT_S = 2.0
LIVENESS = "liveness"
READINESS = "readiness"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

log = logger(__name__)


class Health:
    """Runs the checks once a second, each with a two-second limit, and serves what they say.

    A check raises when its part is unwell. Only `readiness` (by convention the service's own SQL or engine) decides
    whether traffic comes; a dependency that is down must not drain the mesh.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._servicer = health_aio.HealthServicer()
        self._told: dict[str, bool] = {}
        self._background = Background("health", self._run)

    def register(self, server: grpc.aio.Server) -> None:
        """Adds grpc.health.v1.Health to the server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def watch(self, name: str, check: Check) -> None:
        """Adds a named check, such as one for each loaded model."""
        self._checks[name] = check

    async def start(self) -> None:
        """Runs every check once, then keeps doing so in the background."""
        await self._tell(LIVENESS, True)
        await self._round()
        self._background.start()

    async def drain(self) -> None:
        """Says NOT_SERVING for readiness from now on."""
        await self._background.stop()
        for name in ("", READINESS):
            await self._tell(name, False)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self._round()

    async def _round(self) -> None:
        names = tuple(self._checks)
        results = dict(zip(names, await asyncio.gather(*(self._passes(name) for name in names)), strict=True))
        results.setdefault(READINESS, True)
        results[""] = results[READINESS]
        for name, healthy in results.items():
            await self._tell(name, healthy)

    async def _passes(self, name: str) -> bool:
        try:
            await asyncio.wait_for(self._checks[name](), TIMEOUT_S)
        except Exception as error:  # noqa: BLE001  a check fails in whatever way its dependency does
            if self._told.get(name, True):
                text = error.message if isinstance(error, MeshError) else type(error).__name__
                log.warning("health check fails", check=name, reason=text)
            return False
        return True

    async def _tell(self, name: str, healthy: bool) -> None:
        if self._told.get(name) != healthy:
            self._told[name] = healthy
            await self._servicer.set(name, SERVING if healthy else NOT_SERVING)
