"""The one HTTP client of all hosted classifiers: pooled, bounded, no redirects, errors without anything secret."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass

import aiohttp

from services.moderation.classifiers.vendor import Ask

CONNECTIONS = 32  # to one host
MOST_BYTES = 1024 * 1024  # of an answer
CONNECT_SECONDS = 5.0


class CallError(Exception):
    """No complete answer came."""


@dataclass(frozen=True)
class Answer:
    """A complete answer. retry_after: seconds, None where it names none."""

    status: int
    body: bytes
    retry_after: float | None = None


class Caller:
    """One aiohttp session, opened at the first call. `close` may be called twice."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, ask: Ask, timeout: float) -> Answer:
        """Sends it and reads the whole answer. Raises CallError; TimeoutError when that takes longer."""
        try:
            async with asyncio.timeout(timeout):
                return await self._post(ask)
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise CallError(type(error).__name__) from error

    async def _post(self, ask: Ask) -> Answer:
        sent = io.BytesIO(ask.body)  # as a file, which is sent piece by piece, so that the loop goes on
        async with self._opened().post(
            ask.url, data=sent, headers=dict(ask.headers), allow_redirects=False
        ) as response:
            body = await response.content.read(MOST_BYTES + 1)
            while len(body) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES)):
                body += more
            if len(body) > MOST_BYTES:
                raise CallError(f"the answer has more than {MOST_BYTES} bytes")
            return Answer(response.status, body, _seconds(response.headers.get("Retry-After", "")))

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            )
        return self._session

    async def close(self) -> None:
        """Closes the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _seconds(text: str) -> float | None:
    return min(float(text), 60.0) if text.isdigit() else None
