"""Connections that are open before they are needed: name look-up, TCP and TLS happen while a job's prompt is judged.

An idle connection is kept for seconds only (see `HttpConfig.keepalive`), so a pool is cold again soon. Whoever takes a
job says which provider it will probably need; a bare HEAD without credentials opens the connection that the order uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from services.router.providers.http import HttpClient, HttpError, HttpRequest

FRESH_S = 3.0
"""A host that was warmed so lately is warm; below the time that idle connections are kept."""
TIMEOUT_S = 5.0
AT_ONCE = 32


class Warmer:
    """Warms providers of one worker. `close` ends what is under way."""

    def __init__(
        self, http: HttpClient, base_urls: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`base_urls`: where each provider's API is, by provider id. Only TLS is worth the trouble."""
        self._http = http
        self._origins = {name: origin for name, url in base_urls.items() if (origin := _origin(url))}
        self._clock = clock
        self._warmed: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def warm(self, provider: str) -> None:
        """Open a connection in the background, unless one is fresh. Never fails and never waits."""
        origin = self._origins.get(provider)
        now = self._clock()
        if origin is None or now - self._warmed.get(origin, float("-inf")) < FRESH_S or len(self._tasks) >= AT_ONCE:
            return
        self._warmed[origin] = now
        task = asyncio.get_running_loop().create_task(self._open(origin), name=f"warm {origin}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _open(self, origin: str) -> None:
        with contextlib.suppress(HttpError):  # the order itself will tell
            await self._http.send(HttpRequest("HEAD", origin, TIMEOUT_S))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"https://{parts.netloc}/" if parts.scheme == "https" else ""
