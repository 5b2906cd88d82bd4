"""How Google knows us: an API key, or a service account whose signed claim is changed into a token.

The account's key is the service account's JSON file itself, or that file's path. Sources: Google's "Using OAuth 2.0
for server to server applications" and RFC 7523.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import jwt

from services.router.providers.base import Account
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpClient, HttpRequest
from services.router.providers.tokens import TOKEN_TIMEOUT, Tokens, granted

GEMINI = "https://generativelanguage.googleapis.com"
GLOBAL = "global"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLAIM_S = 3600
"""How long a claim may be changed into a token; the most that Google takes."""


@dataclass(frozen=True)
class ServiceAccount:
    """What of a service account's file is needed."""

    email: str
    private_key: str
    key_id: str
    token_uri: str
    project: str


def read_service_account(key: str) -> ServiceAccount:
    """The account behind a key variable's value: the JSON itself, or the path of its file.

    Raises:
        ProviderError: AUTHENTICATION when it cannot be read; the message shows nothing of it.
    """
    try:
        told = json.loads(key if key.lstrip().startswith("{") else Path(key).read_text(encoding="utf-8"))
        return ServiceAccount(
            str(told["client_email"]),
            str(told["private_key"]),
            str(told.get("private_key_id", "")),
            str(told.get("token_uri") or "https://oauth2.googleapis.com/token"),
            str(told.get("project_id", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ProviderError(ErrorKind.AUTHENTICATION, "the service account's key cannot be read") from None


def claim(account: ServiceAccount, now: float) -> str:
    """The signed claim (JWT, RS256).

    Raises:
        ProviderError: AUTHENTICATION when the private key cannot sign.
    """
    told = {"iss": account.email, "scope": SCOPE, "aud": account.token_uri, "iat": int(now), "exp": int(now) + CLAIM_S}
    try:
        return jwt.encode(told, account.private_key, algorithm="RS256", headers={"kid": account.key_id})
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ProviderError(ErrorKind.AUTHENTICATION, "the service account's key cannot sign") from None


class ApiKey:
    """The Gemini Developer API and its key."""

    def __init__(self, account: Account) -> None:
        """`account.base_url` without version; the vendor's own when empty."""
        self._base = (account.base_url or GEMINI).rstrip("/")
        self._key = account.api_key.get_secret_value()

    async def address(self, model: str, method: str, within: float) -> tuple[str, dict[str, str]]:
        """The URL of a model's method, and the headers."""
        return f"{self._base}/v1beta/models/{quote(model, safe='')}:{method}", {"x-goog-api-key": self._key}

    def forget(self) -> None:
        """A key stays what it is."""


class Vertex:
    """Vertex AI and a service account."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """Setting `project` where it is not the service account's; `account.region` is the location (`global`)."""
        self._account = account
        self._http = http
        self._project = account.settings.get("project", "")
        self._location = account.region or GLOBAL
        self._tokens = Tokens(self._fetch)

    async def address(self, model: str, method: str, within: float) -> tuple[str, dict[str, str]]:
        """The URL of a model's method, and the headers with a token that is fetched within so many seconds."""
        token = await self._tokens.bearer(within)
        place = f"projects/{quote(self._project, safe='')}/locations/{quote(self._location, safe='')}"
        path = f"v1/{place}/publishers/google/models/{quote(model, safe='')}:{method}"
        return f"{self._base()}/{path}", {"Authorization": f"Bearer {token}"}

    def forget(self) -> None:
        """The token was refused."""
        self._tokens.forget()

    def _base(self) -> str:
        region = "" if self._location == GLOBAL else f"{self._location}-"
        return (self._account.base_url or f"https://{region}aiplatform.googleapis.com").rstrip("/")

    async def _fetch(self) -> tuple[str, float]:
        account = await asyncio.to_thread(read_service_account, self._account.api_key.get_secret_value())
        self._project = self._project or account.project
        fields = {"grant_type": GRANT, "assertion": await asyncio.to_thread(claim, account, time.time())}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = HttpRequest("POST", account.token_uri, TOKEN_TIMEOUT, headers, urlencode(fields).encode())
        return await granted(self._http, request, "Google")
