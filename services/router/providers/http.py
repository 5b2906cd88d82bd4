"""The one HTTP client of all adapters: pooled, bounded, and honest about whether a request may have been received.

What a failed request means depends on one fact: could the other side have seen it? `NotSentError` says no byte left
(the connection, name look-up or TLS failed, or none was free in time). `BrokenOffError` says that it may have arrived.
Anything that came back with a status is an `HttpAnswer`, whatever the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

import aiohttp
from multidict import CIMultiDict

LARGE_BODY = 256 * 1024
HEARTBEAT = 20.0
"""Seconds between pings of a WebSocket."""
CLOSING = 1.0
"""Seconds that the other side of a WebSocket gets to say good-bye."""


class HttpError(Exception):
    """No complete answer came."""


class NotSentError(HttpError):
    """No byte of the request was sent, so nobody can have acted on it."""


class BrokenOffError(HttpError):
    """The request, or part of it, was sent; the answer did not arrive."""


class TimedOutError(BrokenOffError):
    """The request was sent; the answer did not arrive within the time given."""


class AnswerTooLargeError(HttpError):
    """The answer has more bytes than the request allows."""


@dataclass(frozen=True)
class HttpConfig:
    """Limits of the shared client."""

    connections_per_host: int = 128
    """Open connections to one host and port; further requests wait for a free one."""
    connect_timeout: float = 10.0
    """Seconds for the name look-up, TCP and TLS together."""
    keepalive: float = 4.0
    """Seconds an idle connection is kept; below the 5 s after which common Python servers close theirs, so that a POST
    does not meet a closing connection, which would make its outcome unknown."""
    max_answer_bytes: int = 64 * 1024 * 1024
    """The most bytes of a body that are read."""


@dataclass(frozen=True)
class Part:
    """One part of a multipart form: a field, or a file where it has a file name."""

    name: str
    value: str | bytes
    filename: str = ""
    content_type: str = ""


@dataclass(frozen=True)
class HttpRequest:
    """One request; `timeout` covers everything from waiting for a connection to the last byte."""

    method: str
    url: str
    timeout: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    form: tuple[Part, ...] = ()
    """Sent as multipart/form-data instead of `body`."""
    idle: float | None = None
    """Seconds without a byte after which a stream counts as broken off; None: only `timeout` bounds it."""


@dataclass(frozen=True)
class HttpAnswer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


@dataclass(frozen=True)
class HttpStream:
    """An answer whose body is still coming."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    parts: AsyncIterator[bytes]
    """Pieces of the body as they arrive, of any length. Raises as `HttpClient.send`."""


class HttpClient(Protocol):
    """What adapters need of HTTP."""

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Send and read the whole answer.

        Raises:
            NotSentError, BrokenOffError, TimedOutError, AnswerTooLargeError.
        """

    def stream(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpStream]:
        """Send, and read the answer piece by piece inside the `async with`. Raises as `send`, also from within."""


class Sockets(Protocol):
    """What adapters need of WebSockets."""

    def listen(self, request: HttpRequest) -> AbstractAsyncContextManager[AsyncIterator[str | bytes]]:
        """Connect to `request.url` (http or https); its messages as they come, inside the `async with`.

        `request.timeout` bounds the connecting alone. Nothing is sent. Raises as `HttpClient.send`, also from within.
        """


class PooledHttpClient:
    """`HttpClient` and `Sockets` over one aiohttp session. `start` in the loop, `close` at the end; both may repeat."""

    def __init__(
        self, config: HttpConfig | None = None, connector: Callable[[], aiohttp.BaseConnector] | None = None
    ) -> None:
        self._config = config or HttpConfig()
        self._make_connector = connector or self._pool
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Open the pool."""
        if self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=self._make_connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            trace_configs=[_marks_sent()],
        )

    def _pool(self) -> aiohttp.BaseConnector:
        return aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self._config.connections_per_host,
            keepalive_timeout=self._config.keepalive,
        )

    async def close(self) -> None:
        """Close the pool and its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """See `HttpClient.send`."""
        async with self.stream(request) as answer:
            parts = [part async for part in answer.parts]
            return HttpAnswer(answer.status, answer.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    @contextlib.asynccontextmanager
    async def stream(self, request: HttpRequest) -> AsyncIterator[HttpStream]:
        """See `HttpClient.stream`."""
        self.start()
        assert self._session is not None
        progress = SimpleNamespace(connected=False)
        with _translated(progress):
            async with asyncio.timeout(request.timeout):
                async with self._session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=_form(request.form) if request.form else _body(request.body),
                    allow_redirects=False,
                    timeout=self._timeout(request),
                    trace_request_ctx=progress,
                ) as response:
                    yield HttpStream(response.status, CIMultiDict(response.headers), self._read(response))

    @contextlib.asynccontextmanager
    async def listen(self, request: HttpRequest) -> AsyncIterator[AsyncIterator[str | bytes]]:
        """See `Sockets.listen`."""
        self.start()
        assert self._session is not None
        with _translated(SimpleNamespace(connected=False)):
            async with asyncio.timeout(request.timeout):
                socket = await self._session.ws_connect(
                    request.url,
                    headers=request.headers,
                    max_msg_size=self._config.max_answer_bytes,
                    heartbeat=HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING),
                )
            try:
                yield _messages(socket)
            finally:
                await socket.close()

    def _timeout(self, request: HttpRequest) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._config.connect_timeout, sock_read=request.idle)

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        cap = self._config.max_answer_bytes
        if (response.content_length or 0) > cap:
            raise AnswerTooLargeError(f"the answer announces {response.content_length} bytes; at most {cap} are read")
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > cap:
                raise AnswerTooLargeError(f"the answer has more than {cap} bytes")
            yield part


async def _messages(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[str | bytes]:
    async for message in socket:
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            yield message.data


def _body(data: bytes | None) -> bytes | io.BytesIO | None:
    """Large bodies as files, which aiohttp sends piece by piece, so that the loop goes on."""
    return io.BytesIO(data) if data is not None and len(data) > LARGE_BODY else data


def _form(parts: tuple[Part, ...]) -> aiohttp.MultipartWriter:
    """The form as bytes in memory, so that a length is announced."""
    writer = aiohttp.MultipartWriter("form-data")
    for part in parts:
        headers = {"Content-Type": part.content_type} if part.content_type else {}
        value = _body(part.value) if isinstance(part.value, bytes) else part.value
        payload = aiohttp.payload.get_payload(value, headers=CIMultiDict(headers))
        names = {"name": part.name, **({"filename": part.filename} if part.filename else {})}
        payload.set_content_disposition("form-data", True, **names)
        writer.append_payload(payload)
    return writer


@contextlib.contextmanager
def _translated(progress: SimpleNamespace) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        if progress.connected:
            raise TimedOutError("no complete answer in time") from error
        raise NotSentError("no connection in time") from error
    except aiohttp.InvalidURL as error:
        raise NotSentError("the address is not valid") from error
    except (aiohttp.ClientError, OSError) as error:
        if progress.connected:
            raise BrokenOffError(f"the connection broke ({type(error).__name__})") from error
        raise NotSentError(f"no connection ({type(error).__name__})") from error


def _marks_sent() -> aiohttp.TraceConfig:
    """A trace that notes when a request got its connection: from then on bytes may be on their way."""

    async def connected(_session: object, context: SimpleNamespace, _params: object) -> None:
        if context.trace_request_ctx is not None:  # WebSockets have none
            context.trace_request_ctx.connected = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    return trace
