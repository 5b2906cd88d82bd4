"""The one HTTP client of all adapters: pooled, bounded, and honest about whether a request may have been received.

What a failed request means depends on one fact: could the other side have seen it? `NotSentError` says no byte left
(the connection, name look-up or TLS failed, or none was free in time). `BrokenOffError` says that it may have arrived.
Anything that came back with a status is an `HttpAnswer`, whatever the status.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

import aiohttp
from multidict import CIMultiDict


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
class HttpRequest:
    """One request; `timeout` covers everything from waiting for a connection to the last byte."""

    method: str
    url: str
    timeout: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class HttpAnswer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes


class HttpClient(Protocol):
    """What adapters need of HTTP."""

    async def send(self, request: HttpRequest) -> HttpAnswer:
        """Send and read the whole answer.

        Raises:
            NotSentError, BrokenOffError, TimedOutError, AnswerTooLargeError.
        """


class PooledHttpClient:
    """`HttpClient` over one aiohttp session. `start` inside the loop, `close` at the end; both may be repeated."""

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
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._config.connect_timeout),
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
        self.start()
        assert self._session is not None
        progress = SimpleNamespace(connected=False)
        with _translated(progress):
            async with asyncio.timeout(request.timeout):
                async with self._session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                    trace_request_ctx=progress,
                ) as response:
                    body = await self._read(response)
                    return HttpAnswer(response.status, CIMultiDict(response.headers), body)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        cap = self._config.max_answer_bytes
        if (response.content_length or 0) > cap:
            raise AnswerTooLargeError(f"the answer announces {response.content_length} bytes; at most {cap} are read")
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > cap:
                raise AnswerTooLargeError(f"the answer has more than {cap} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


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
        context.trace_request_ctx.connected = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    return trace
