"""Stability AI, API v2beta: forms in, JSON with base64 out; some services answer with an id to ask for.

Variant `results` are those services (creative upscaling, relighting), the default is all the others: an order that can
be taken up again is another promise than one that cannot. What is drawn and blurred by the filter is a refusal.
Source: the vendor's API description as collected 2026-11-20; `GET /v1/user/balance` from its version 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from services.router.providers.answers import (
    asking,
    broken,
    bytes_of,
    json_of,
    kind_of_status,
    object_of,
    ordering,
    picture_of,
    retry_after,
    short_code,
)
from services.router.providers.base import (
    Account,
    Capabilities,
    Listener,
    Provider,
    ProviderCall,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import union
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest, Part
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.stability_fields import Filled, filled
from services.router.providers.stability_services import SERVICES, service_of

BASE = "https://api.stability.ai"
RESULTS = "results"
"""The variant of the asynchronous services."""
PACE = Pace(12.5, 12.5)
"""A result is asked for at most every 10 s; pauses vary by a fifth."""
CHECK_TIMEOUT = 15.0
LOCKOUT = 60.0
"""Seconds for which an account is shut out after too many requests; the answer does not say so."""
FILTERED = "CONTENT_FILTERED"

NAMES: Mapping[str, ErrorKind] = {
    "content_moderation": ErrorKind.REFUSED,
    "public_figure": ErrorKind.REFUSED,
    "rate_limit_exceeded": ErrorKind.RATE_LIMITED,
    "internal_error": ErrorKind.OVERLOADED,
}
"""Names of errors that say more than the status."""


def capabilities(variant: str) -> Capabilities:
    """What the services of a variant can do.

    Raises:
        KeyError: there is no such variant.
    """
    waits = {"": False, RESULTS: True}[variant]
    able = union(service.capabilities for service in SERVICES.values() if service.asynchronous is waits)
    return replace(able, resumable=waits)


class Stability(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient, pace: Pace = PACE) -> None:
        """`account.base_url` without version; the vendor's own when empty."""
        self.name = account.provider
        self._account = account
        self._base = (account.base_url or BASE).rstrip("/")
        self._http = http
        self._pace = pace
        self._able = capabilities(account.variant)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the account's variant."""
        return self._able

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST the form; read the picture, or store the id and ask for it."""
        ends = asyncio.get_running_loop().time() + call.timeout
        service = service_of(call.model)
        if service.asynchronous is not self._able.resumable:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} belongs to the other variant of {self.name}")
        form = self._form(call, service.path, await filled(service, call))
        call.before_sending()
        url = f"{self._base}/v2beta/stable-image/{service.path}"
        with ordering():
            answer = await self._http.send(HttpRequest("POST", url, call.timeout, self._headers(call), form=form))
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        if not service.asynchronous:
            request_id = answer.headers.get("x-request-id", "")
            if told.get("finish_reason") == FILTERED:
                raise _filtered(request_id)
            image = picture_of(await bytes_of(told.get("image")), told.get("seed"))
            return ProviderResult((image,), request_id, call.model_version)
        if not isinstance(told.get("id"), str):
            raise broken("the answer names no order")
        await listener.accepted(told["id"])
        return await self._wait(call, told["id"], listener, ends - asyncio.get_running_loop().time())

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Ask for the result on."""
        return await self._wait(call, provider_request_id, listener, call.timeout)

    async def check(self) -> str:
        """The credits that are left."""
        url = f"{self._base}/v1/user/balance"
        with asking():
            answer = await self._http.send(HttpRequest("GET", url, CHECK_TIMEOUT, self._authorized("application/json")))
        if answer.status != 200:
            raise error_of(answer)
        return f"{object_of(answer.body).get('credits')} credits left"

    def _form(self, call: ProviderCall, path: str, fields: Filled) -> tuple[Part, ...]:
        texts = {**fields.texts, **({"model": call.model} if path == "generate/sd3" else {})}
        parts = [Part(name, _text(value)) for name, value in texts.items()]
        for name, picture in fields.pictures.items():
            parts.append(Part(name, picture.data, f"{name}.{picture.media_type.split('/')[1]}", picture.media_type))
        return tuple(parts)

    def _headers(self, call: ProviderCall) -> dict[str, str]:
        headers = {**self._authorized("application/json"), "stability-client-id": call.attempt_id}
        return {**headers, "stability-client-user-id": call.user} if call.user else headers

    def _authorized(self, accept: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._account.api_key.get_secret_value()}", "Accept": accept}

    async def _wait(self, call: ProviderCall, request_id: str, listener: Listener, left: float) -> ProviderResult:
        url, headers = f"{self._base}/v2beta/results/{quote(request_id, safe='')}", self._authorized("*/*")
        order = Order(request_id, lambda seconds: HttpRequest("GET", url, seconds, headers), self._pace)
        answer = await poll(self._http, order, lambda polled: _ready(polled, request_id), left, listener)
        told = await _told(answer)
        if told.get("finish_reason") == FILTERED:
            raise _filtered(request_id)
        image = picture_of(told["data"], told.get("seed"))
        return ProviderResult((image,), request_id, call.model_version)


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    name = _name(answer.body)
    kind = NAMES.get(name) or kind_of_status(answer.status)
    wait = retry_after(answer.headers)
    return ProviderError(
        kind,
        f"the provider answered {answer.status}" + (f" ({name})" if name else ""),
        retry_after=LOCKOUT if wait is None and kind is ErrorKind.RATE_LIMITED else wait,
        provider_request_id=answer.headers.get("x-request-id", ""),
        status=answer.status,
    )


def _name(body: bytes) -> str:
    try:
        return short_code(object_of(body).get("name"))
    except ProviderError:
        return ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _told(answer: HttpAnswer) -> dict[str, Any]:
    """A result as it came: bytes with headers, or JSON with base64."""
    if "json" in answer.headers.get("content-type", ""):
        told = await json_of(answer.body)
        return {**told, "data": await bytes_of(told.get("result") or told.get("image"))}
    seed = answer.headers.get("seed", "")
    finish = answer.headers.get("finish-reason", "")
    return {"data": answer.body, "seed": int(seed) if seed.isdecimal() else None, "finish_reason": finish}


def _filtered(request_id: str) -> ProviderError:
    return ProviderError(ErrorKind.REFUSED, "the provider blurred the picture", provider_request_id=request_id)


def _ready(answer: HttpAnswer, request_id: str) -> HttpAnswer | None:
    if answer.status == 202:
        return None
    if answer.status == 200:
        return answer
    refused = NAMES.get(_name(answer.body)) is ErrorKind.REFUSED
    kind = ErrorKind.REFUSED if refused else ErrorKind.UNKNOWN_OUTCOME
    raise ProviderError(kind, f"its result was answered {answer.status}", provider_request_id=request_id)
