"""Entra ID instead of a key: tokens by the OAuth 2.0 client credentials grant.

Source: Microsoft identity platform, "OAuth 2.0 client credentials flow".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote, urlencode

from services.router.providers.base import Account
from services.router.providers.http import HttpClient, HttpRequest
from services.router.providers.tokens import TOKEN_TIMEOUT, Tokens, granted

AUTHORITY = "https://login.microsoftonline.com"
SCOPE = "https://ai.azure.com/.default"
CLIENT_SECRET = "client_secret"
EARLY = 120.0
"""Seconds before its end from which a token is replaced; they hold for about an hour."""


class EntraTokens(Tokens):
    """One account's token."""

    def __init__(self, account: Account, http: HttpClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Settings `tenant_id`, `client_id`, and `authority` or `scope` where they differ; secret `client_secret`."""
        super().__init__(lambda: granted(http, _request(account), "Entra ID"), EARLY, clock)


def _request(account: Account) -> HttpRequest:
    settings = account.settings
    authority = settings.get("authority", AUTHORITY).rstrip("/")
    fields = {
        "grant_type": "client_credentials",
        "client_id": settings.get("client_id", ""),
        "client_secret": account.secret(CLIENT_SECRET),
        "scope": settings.get("scope", SCOPE),
    }
    url = f"{authority}/{quote(settings.get('tenant_id', ''), safe='')}/oauth2/v2.0/token"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return HttpRequest("POST", url, TOKEN_TIMEOUT, headers, urlencode(fields).encode())
