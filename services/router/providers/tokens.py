"""Tokens that end, instead of keys: fetched once for all calls of an account, and replaced before they end.

Source of the grant's answer: RFC 6749, sections 5.1 and 5.2.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

from services.router.providers.answers import json_of, kind_of_status, retry_after
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpClient, HttpError, HttpRequest

EARLY = 300.0
"""Seconds before its end from which a token is replaced, or half its time where that is less."""
AGAIN = 10.0
"""Seconds until the next try where replacing fails while the old token still holds."""
TOKEN_TIMEOUT = 15.0

Fetch = Callable[[], Awaitable[tuple[str, float]]]
"""A new token and the seconds it holds; raises ProviderError."""


class Tokens:
    """One account's token. Calls that come while one is fetched wait for the same, and share its failure."""

    def __init__(self, fetch: Fetch, early: float = EARLY, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._early = early
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._token = ""
        self._fresh_until = self._ends = float("-inf")
        self._failures = 0
        self._failure: ProviderError | None = None

    async def bearer(self, within: float | None = None) -> str:
        """A token that is valid for some time, after at most `within` seconds.

        Raises:
            ProviderError: AUTHENTICATION when it is refused; UNREACHABLE or OVERLOADED when nobody gives one now.
        """
        try:
            async with asyncio.timeout(within):
                return await self._current()
        except TimeoutError as error:
            raise ProviderError(ErrorKind.UNREACHABLE, "no token in time") from error

    def forget(self, refused: str = "") -> None:
        """The token was refused: the next call fetches another. A token that is no longer used changes nothing."""
        if refused in ("", self._token):
            self._fresh_until = self._ends = float("-inf")

    async def _current(self) -> str:
        failures = self._failures
        async with self._fetching:
            if self._clock() < self._fresh_until:
                return self._token
            if self._failure is not None and self._failures != failures:  # it failed while this call waited
                raise _again(self._failure)
            await self._replace()
            return self._token

    async def _replace(self) -> None:
        try:
            token, seconds = await self._fetch()
        except ProviderError as error:
            self._failure, self._failures = error, self._failures + 1
            if self._clock() >= self._ends:
                raise
            self._fresh_until = min(self._clock() + AGAIN, self._ends)
            return
        self._failure = None
        self._token, self._ends = token, self._clock() + seconds
        self._fresh_until = self._clock() + max(seconds - self._early, seconds / 2)


async def granted(http: HttpClient, request: HttpRequest, giver: str) -> tuple[str, float]:
    """What an OAuth 2.0 token endpoint gives: the token, and the seconds it holds. `giver` is named in errors.

    Raises:
        ProviderError: AUTHENTICATION when it refuses; UNREACHABLE, OVERLOADED or RATE_LIMITED when it gives none now.
    """
    try:
        answer = await http.send(request)
    except HttpError as error:  # nothing was ordered, so nothing is unknown
        raise ProviderError(ErrorKind.UNREACHABLE, f"no token from {giver}: no answer") from error
    if answer.status != 200:
        raise _refused(answer, giver)
    try:
        told = await json_of(answer.body)
        token, seconds = told["access_token"], float(told["expires_in"])
    except (ProviderError, KeyError, TypeError, ValueError) as error:
        raise _unread(giver) from error
    if not isinstance(token, str) or not token or not 0 < seconds < float("inf"):
        raise _unread(giver)
    return token, seconds


def _unread(giver: str) -> ProviderError:
    return ProviderError(ErrorKind.OVERLOADED, f"no token from {giver}: its answer cannot be read")


def _refused(answer: HttpAnswer, giver: str) -> ProviderError:
    kind = kind_of_status(answer.status)
    if kind in (ErrorKind.BAD_REQUEST, ErrorKind.AUTHENTICATION):  # 400 or 401 to wrong credentials
        kind = ErrorKind.AUTHENTICATION
    elif kind is ErrorKind.UNKNOWN_OUTCOME:
        kind = ErrorKind.OVERLOADED
    message = f"no token from {giver}: it answered {answer.status}{_code(answer.body)}"
    return ProviderError(kind, message, retry_after=retry_after(answer.headers))


def _code(body: bytes) -> str:
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({told})" if isinstance(told, str) and told.isidentifier() else ""


def _again(error: ProviderError) -> ProviderError:
    return ProviderError(error.kind, error.message, retry_after=error.retry_after)
