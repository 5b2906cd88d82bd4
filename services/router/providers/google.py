"""Google's picture models: Gemini on the Developer API and on Vertex AI, and Imagen's predict surface on Vertex AI.

    gemini (default)   generativelanguage.googleapis.com, an API key
    vertex             {location}-aiplatform.googleapis.com, a service account
    imagen             the same, for accounts that still have Imagen

Every answer comes in the same call, refusals too: as success without a picture. So there is nothing to take up again or
to call off. `account.region` is Vertex AI's location (`global` when empty); setting: `project`, where it is not the
service account's own; `check_model`, the model that a check names. Source: see `google_requests` and `google_answers`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.router.providers.answers import asking, json_of, ordering
from services.router.providers.base import Account, Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind
from services.router.providers.fitting import refuse_unfit
from services.router.providers.google_accounts import ApiKey, Vertex
from services.router.providers.google_answers import error_of, generated, predicted
from services.router.providers.google_models import capabilities
from services.router.providers.google_requests import Body, generate_body, labeled_body, predict_body
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest

CHECK_TIMEOUT = 15.0
CHECK_MODEL = "gemini-2.5-flash-image"


@dataclass(frozen=True)
class Method:
    """A way to have pictures drawn."""

    name: str
    body: Callable[[ProviderCall], Awaitable[Body]]
    read: Callable[[Mapping[str, Any], ProviderCall], Awaitable[ProviderResult]]


METHODS: Mapping[str, Method] = {
    "gemini": Method("generateContent", generate_body, generated),
    "vertex": Method("generateContent", labeled_body, generated),
    "imagen": Method("predict", predict_body, predicted),
}


class Google(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.variant` is a key of `METHODS`, `gemini` when empty."""
        self.name = account.provider
        variant = account.variant or "gemini"
        self._able = capabilities(variant)
        self._method = METHODS[variant]
        self._door = ApiKey(account) if variant == "gemini" else Vertex(account, http)
        self._check_model = account.settings.get("check_model", CHECK_MODEL)
        self._http = http

    @property
    def capabilities(self) -> Capabilities:
        """Those of the surface."""
        return self._able

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST and read."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + call.timeout
        refuse_unfit(call, self._able)
        body = await self._method.body(call)
        url, headers = await self._door.address(call.model, self._method.name, ends - loop.time())
        sent = await asyncio.to_thread(_json, body) if call.images else _json(body)  # pictures make it long
        request = _request(url, headers, sent, ends - loop.time())
        call.before_sending()
        with ordering():
            answer = await self._http.send(request)
        return await self._method.read(await self._read(answer), call)

    async def check(self) -> str:
        """Counts the tokens of a word, which is free and draws nothing."""
        url, headers = await self._door.address(self._check_model, "countTokens", CHECK_TIMEOUT)
        body = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
        with asking():
            answer = await self._http.send(_request(url, headers, _json(body), CHECK_TIMEOUT))
        await self._read(answer)
        return f"it answers for {self._check_model}"

    async def _read(self, answer: HttpAnswer) -> Mapping[str, Any]:
        if answer.status == 200:
            return await json_of(answer.body)
        error = error_of(answer)
        if error.kind is ErrorKind.AUTHENTICATION:
            self._door.forget()
        raise error


def _json(body: Body) -> bytes:
    return json.dumps(body).encode()


def _request(url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> HttpRequest:
    return HttpRequest("POST", url, max(timeout, 0.0), {**headers, "Content-Type": "application/json"}, body)
