"""What the strict fakes of hosted classifiers share: they refuse what the vendor would refuse, and fail on request.

`found` are the labels that the next answers tell; `failure` is how they fail: a status, or `silent` (never answers),
`reset` (drops the connection), `garbage` (not JSON), `foreign` (JSON of another kind), `huge` (more than is read).
"""

from __future__ import annotations

import asyncio
import binascii
from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from mesh.imaging import ImageInfo, probe

KEY = "key-of-the-tests-0123456789"
Check = Callable[[Any], bool]


def picture_of(text: Any) -> ImageInfo:
    """The picture in base64. Raises ValueError when it is none."""
    try:
        return probe(b64decode(text, validate=True))
    except (binascii.Error, TypeError) as error:
        raise ValueError("no base64") from error


def only(body: Any, fields: Mapping[str, Check]) -> None:
    """Raises ValueError unless it has exactly these fields, each as it should be."""
    if not isinstance(body, dict) or set(body) != set(fields):
        raise ValueError(f"fields: {sorted(body) if isinstance(body, dict) else body!r}")
    for name, check in fields.items():
        if not check(body[name]):
            raise ValueError(f"{name}: {str(body[name])[:80]}")


@dataclass
class FakeVendor(ABC):
    """One vendor's server; `asked` are the texts and pictures it judged."""

    found: Mapping[str, float] = field(default_factory=dict)
    failure: int | str | None = None
    asked: list[str | ImageInfo] = field(default_factory=list)
    base_url: str = ""

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Its methods."""

    @abstractmethod
    async def judge(self, request: web.Request) -> object:
        """The answer's JSON. Raises ValueError for a request that the vendor would refuse, KeyError for a wrong key."""

    @abstractmethod
    def error(self, status: int) -> object:
        """The body of an error."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.failure is not None:
            return await self._fail(request)
        try:
            return web.json_response(await self.judge(request))
        except KeyError:
            return web.json_response(self.error(401), status=401)
        except ValueError as error:
            return web.json_response({"refused": str(error), **dict(self.error(400))}, status=400)  # type: ignore[call-overload]

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        if self.failure == "silent":
            await asyncio.Event().wait()
        if self.failure == "reset":
            assert request.transport is not None
            request.transport.abort()
        if isinstance(self.failure, int):
            headers = {"Retry-After": "7"} if self.failure == 429 else {}
            return web.json_response(self.error(self.failure), status=self.failure, headers=headers)
        bodies = {"garbage": b"<html>", "foreign": b'{"hello": []}', "huge": b"[" + b"0," * 1_000_000 + b"0]"}
        return web.Response(body=bodies.get(str(self.failure), b""), content_type="application/json")

    async def start(self) -> web.AppRunner:
        """Listens; the address is in `base_url`."""
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.add_routes(self.routes())
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        return runner


def needs(request: web.Request, header: str, value: str) -> None:
    """Raises KeyError unless the header is there with this value."""
    if request.headers.get(header) != value:
        raise KeyError(header)
