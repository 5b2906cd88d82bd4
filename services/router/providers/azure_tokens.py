"""Entra ID instead of a key: tokens by the OAuth 2.0 client credentials grant, kept until shortly before they end.

Source: Microsoft identity platform, "OAuth 2.0 client credentials flow".
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from urllib.parse import quote, urlencode

from services.router.providers.answers import json_of, kind_of_status
from services.router.providers.base import Account
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpClient, HttpError, HttpRequest

AUTHORITY = "https://login.microsoftonline.com"
SCOPE = "https://ai.azure.com/.default"
CLIENT_SECRET = "client_secret"
EARLY = 120.0
"""Seconds before its end from which a token is replaced."""
TOKEN_TIMEOUT = 15.0


class EntraTokens:
    """One account's token. Calls that come while one is fetched wait for the same."""

    def __init__(self, account: Account, http: HttpClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Settings `tenant_id`, `client_id`, and `authority` or `scope` where they differ; secret `client_secret`."""
        self._account = account
        self._http = http
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    async def bearer(self) -> str:
        """A token that is valid for some time.

        Raises:
            ProviderError: AUTHENTICATION when Entra refuses; UNREACHABLE or OVERLOADED when it cannot be asked now.
        """
        async with self._fetching:
            if self._clock() >= self._until:
                self._token, seconds = await self._fetched()
                self._until = self._clock() + max(seconds - EARLY, seconds / 2)
            return self._token

    def forget(self) -> None:
        """The token was refused: the next call fetches another."""
        self._until = 0.0

    async def _fetched(self) -> tuple[str, float]:
        try:
            answer = await self._http.send(self._request())
        except HttpError as error:  # nothing was ordered, so nothing is unknown
            raise ProviderError(ErrorKind.UNREACHABLE, "no token from Entra ID: no answer") from error
        if answer.status != 200:
            raise _refused(answer)
        told = await json_of(answer.body)
        token, seconds = told.get("access_token"), told.get("expires_in")
        if not isinstance(token, str) or not token or not str(seconds).isdigit():
            raise ProviderError(ErrorKind.OVERLOADED, "no token from Entra ID: its answer cannot be read")
        return token, float(str(seconds))

    def _request(self) -> HttpRequest:
        settings = self._account.settings
        authority = settings.get("authority", AUTHORITY).rstrip("/")
        fields = {
            "grant_type": "client_credentials",
            "client_id": settings.get("client_id", ""),
            "client_secret": self._account.secret(CLIENT_SECRET),
            "scope": settings.get("scope", SCOPE),
        }
        url = f"{authority}/{quote(settings.get('tenant_id', ''), safe='')}/oauth2/v2.0/token"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return HttpRequest("POST", url, TOKEN_TIMEOUT, headers, urlencode(fields).encode())


def _refused(answer: HttpAnswer) -> ProviderError:
    kind = kind_of_status(answer.status)
    if kind in (ErrorKind.BAD_REQUEST, ErrorKind.AUTHENTICATION):  # Entra says 400 or 401 to wrong credentials
        kind = ErrorKind.AUTHENTICATION
    elif kind is ErrorKind.UNKNOWN_OUTCOME:
        kind = ErrorKind.OVERLOADED
    return ProviderError(kind, f"no token from Entra ID: it answered {answer.status}{_code(answer.body)}")


def _code(body: bytes) -> str:
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({told})" if isinstance(told, str) and told.isidentifier() else ""
