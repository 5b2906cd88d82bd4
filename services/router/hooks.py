"""The HTTP port that vendors call back: `POST /hooks/{provider}/{attempt_id}?t=TOKEN`.

Verify, store, wake, 2xx. 404 for an address we never gave away, 401 for a call back that is not to be believed, 503
while our database does not answer (vendors repeat). The body is never more than a wake-up: the vendor is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from mesh import telemetry
from mesh.errors import MeshError
from services.router.call_back_store import Fact, Noted
from services.router.call_backs import SIGNAL, CallBackAddresses
from services.router.providers.base import Provider
from services.router.providers.webhooks import CallBack, CallBackRefusedError

MOST_BYTES = 4 * 1024 * 1024
READ_SECONDS = 20.0
"""A body that takes longer is not waited for: it would hold a place among those read at once."""
AT_ONCE = 64
"""Call backs that are read at the same time; more are told to come again."""

log = telemetry.logger(__name__)


@dataclass(frozen=True)
class HooksConfig:
    """Where to listen; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    drain_seconds: float = 5.0
    read_seconds: float = READ_SECONDS


@dataclass(frozen=True)
class Desk:
    """What call backs are handed to."""

    providers: Mapping[str, Provider]
    """Those that verify, by id."""
    addresses: CallBackAddresses
    note: Callable[[Fact], Awaitable[Noted]]
    signal: Callable[[str, bytes], Awaitable[None]]
    """Tells the worker that waits for the order."""


class Hooks:
    """The port. `start` and `stop` once, in order; `port` is known in between."""

    def __init__(self, config: HooksConfig, desk: Desk) -> None:
        self._config = config
        self._desk = desk
        self._reading = asyncio.Semaphore(AT_ONCE)
        self._runner: web.AppRunner | None = None
        self._came = telemetry.counter("imagemesh.provider.call_backs", "{call_back}", "Call backs of vendors.")
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/hooks/{provider}/{attempt_id}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=self._config.drain_seconds)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Let running calls end, then close."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        provider, attempt_id = request.match_info["provider"], request.match_info["attempt_id"]
        token = request.query.get("t", "")
        if provider not in self._desk.providers or not self._desk.addresses.genuine(provider, attempt_id, token):
            return self._answer(404, provider="", outcome="no_such_address")
        if self._reading.locked():
            return self._answer(503, provider, "busy")
        async with self._reading:
            headers = {name.lower(): value for name, value in request.headers.items()}
            try:
                async with asyncio.timeout(self._config.read_seconds):
                    body = await request.read()
            except TimeoutError:
                return self._answer(408, provider, "slow")
            return await self._believe(provider, attempt_id, CallBack(headers, body, dict(request.query)))

    async def _believe(self, provider: str, attempt_id: str, call_back: CallBack) -> web.Response:
        try:
            request_id = await self._desk.providers[provider].verify(call_back)
            noted = await self._desk.note(Fact(provider, attempt_id, request_id))
        except CallBackRefusedError as error:
            log.warning("call back refused", provider=provider, attempt_id=attempt_id, why=str(error))
            return self._answer(401, provider, "refused")
        except MeshError as error:
            log.warning("call back not stored", provider=provider, attempt_id=attempt_id, why=error.message)
            return self._answer(503, provider, "not_stored")
        if noted in (Noted.HEARD, Noted.TAKEN_UP):
            await self._desk.signal(SIGNAL + attempt_id, b"")
        return self._answer(404 if noted is Noted.UNKNOWN_ATTEMPT else 204, provider, noted.value.lower())

    def _answer(self, status: int, provider: str, outcome: str) -> web.Response:
        self._came.add(1, {"gen_ai.provider.name": provider, "imagemesh.outcome": outcome})
        return web.Response(status=status)
