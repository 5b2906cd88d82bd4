"""The HTTP port: serves signed addresses.

Order of answers: 403 for anything that is not exactly a valid address, 404 for what is not PUBLISHED, and only then
conditions and ranges, so that a cache's questions tell nothing to those without an address.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from mesh import telemetry
from mesh.errors import Code, MeshError, NotFound
from mesh.telemetry import TraceContext
from services.storage.archive import Archive
from services.storage.assets import FORMATS, Asset, Content, State, not_found
from services.storage.ranges import Part, Unsatisfiable, matches, part_of
from services.storage.rendering import Renditions
from services.storage.renditions import Spec, spec_of
from services.storage.signing import ASSET_PATH, BadSignature, KeyRing, Signed, verify
from services.storage.store import AssetStore

WINDOW = 4 << 20  # bytes held at once for one response
STATUSES: Mapping[Code, int] = {
    Code.INVALID_ARGUMENT: 422,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 503,
    Code.UNAVAILABLE: 503,
}

log = telemetry.logger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class HttpConfig:
    """host and port: where to listen, port 0 takes a free one. max_age: most seconds a cache may keep a picture."""

    host: str = "127.0.0.1"
    port: int = 0
    max_age: int = 3600
    drain_seconds: float = 20.0


@dataclass(frozen=True)
class Shelf:
    """What the HTTP port reads from."""

    store: AssetStore
    archive: Archive
    renditions: Renditions
    ring: KeyRing
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Served:
    """A representation that may be sent, and for how many seconds it may be kept."""

    asset_id: str
    content: Content
    max_age: int

    @property
    def etag(self) -> str:
        """Strong: equal tags mean equal bytes."""
        return f'"{self.content.sha256}"'

    def headers(self) -> dict[str, str]:
        """What every answer about it carries, 304 included."""
        return {
            "ETag": self.etag,
            "Cache-Control": f"private, max-age={self.max_age}, immutable",
            "Accept-Ranges": "bytes",
            "X-Content-Type-Options": "nosniff",
        }


class HttpServer:
    """Serves `GET|HEAD /a/{asset_id}` and `/healthz`. `start` and `stop` may each be called once."""

    def __init__(self, config: HttpConfig, shelf: Shelf) -> None:
        self._config = config
        self._shelf = shelf
        self.port = config.port
        app = web.Application(middlewares=[_answered])
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/a/{asset_id}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=config.drain_seconds)

    async def start(self) -> None:
        """Listens; `port` is the real one afterwards."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._config.host, self._config.port).start()
        self.port = int(self._runner.addresses[0][1])
        log.info("serving http", port=self.port)

    async def stop(self) -> None:
        """Stops listening and lets running answers end."""
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        served = await self._find(request.raw_path)
        headers = served.headers()
        if matches(request.headers.get("If-None-Match"), served.etag):
            return web.Response(status=304, headers=headers)
        ranged = request.method == "GET" and request.headers.get("If-Range") in (None, served.etag)
        wanted = request.headers.get("Range") if ranged else None
        size = served.content.size_bytes
        try:
            part = part_of(wanted, size)
        except Unsatisfiable:
            return web.Response(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        return await self._send(request, served, part)

    async def _find(self, target: str) -> Served:
        """What the request target stands for; raises BadSignature, NotFound or what making a rendition raises."""
        shelf = self._shelf
        now = shelf.clock()
        signed = verify(shelf.ring, target, now)
        asset_id, spec = _meaning(signed)
        asset = await shelf.store.get(asset_id, "")
        if asset.state is not State.PUBLISHED:
            raise not_found(asset_id)
        content = asset.content if spec.empty else await self._rendition(asset, spec)
        return Served(asset_id, content, max(0, min(self._config.max_age, int(signed.expires - shelf.clock()))))

    async def _rendition(self, asset: Asset, spec: Spec) -> Content:
        content = await self._shelf.renditions.get(asset, spec)
        await self._still_published(asset.asset_id)  # making it takes time; a takedown may have come
        return content

    async def _still_published(self, asset_id: str) -> None:
        present = await self._shelf.store.get(asset_id, "")
        if present.state is not State.PUBLISHED:
            raise not_found(asset_id)

    async def _send(self, request: web.Request, served: Served, part: Part | None) -> web.StreamResponse:
        content = served.content
        headers = {**served.headers(), "Content-Type": FORMATS[content.format]}
        if part is not None:
            headers["Content-Range"] = part.content_range
        status = 200 if part is None else 206
        span = part or Part(0, content.size_bytes - 1, content.size_bytes)
        if request.method == "HEAD":
            return web.Response(status=status, headers={**headers, "Content-Length": str(span.length)})
        if span.length <= WINDOW:
            body = await self._shelf.archive.read(content, span.first, span.length)
            return web.Response(status=status, headers=headers, body=body)
        return await self._stream(request, web.StreamResponse(status=status, headers=headers), served, span)

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, served: Served, part: Part
    ) -> web.StreamResponse:
        windows = self.windows(served, part)
        first = await anext(windows)  # what cannot be read at all is still a proper error
        response.content_length = part.length
        await response.prepare(request)
        await response.write(first)
        try:
            async for window in windows:
                await response.write(window)
        except MeshError as error:
            _break_off(request, error)
        return response

    async def windows(self, served: Served, part: Part) -> AsyncIterator[bytes]:
        """The bytes of the part, 4 MiB at a time; NotFound from where a takedown came in between."""
        position = part.first
        while position <= part.last:
            if position > part.first:
                await self._still_published(served.asset_id)
            window = await self._shelf.archive.read(served.content, position, min(WINDOW, part.last + 1 - position))
            position += len(window)
            yield window


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A span around the request, and errors as plain answers. The address itself is a secret: it is never recorded."""
    parent = TraceContext(request.headers.get("traceparent", ""), request.headers.get("tracestate", ""))
    attributes = {"http.request.method": request.method, "http.route": _route(request)}
    with telemetry.span(
        f"{request.method} {_route(request)}", kind="server", parent=parent, attributes=attributes
    ) as span:
        response = await _mapped(request, handler)
        span.set("http.response.status_code", response.status)
        return response


async def _mapped(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadSignature as error:
        return _refused(403, f"{error}\n")
    except NotFound:
        return _refused(404, "not found\n")
    except MeshError as error:
        log.warning("http request failed", reason=error.reason)
        response = _refused(STATUSES.get(error.code, 500), f"{error.message}\n")
        if error.retry_after is not None:
            response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
        return response


def _break_off(request: web.Request, error: MeshError) -> None:
    """The head of the answer is out already: a broken connection is the only way left to tell of a failure."""
    log.warning("http answer broken off", reason=error.reason)
    if request.transport is not None:
        request.transport.abort()


def _refused(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, headers={"Cache-Control": "no-store"})


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _meaning(signed: Signed) -> tuple[str, Spec]:
    path = ASSET_PATH.fullmatch(signed.path)
    spec = spec_of(signed.query)
    if path is None or spec is None:  # signed with our key, but not by this version
        raise BadSignature("the address is not one of ours")
    return path[1], spec


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")
