"""Ideogram: orders with an id on the current surface (version 2), answers in the same call on the older one.

Masks are inverted on the way out, for what is BLACK changes there. OUTPAINT goes out as an inpainting of the padded
picture: the vendor's own `reframe` takes a size and no margins. A picture that the filter kept back comes as an entry
without address; when all of them do, that is a refusal.
Sources as in `ideogram_models`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from services.router.providers.answers import (
    asking,
    broken,
    download,
    json_of,
    kept_places,
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
    InputImage,
    Listener,
    Provider,
    ProviderCall,
    ProviderImage,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_other_size, refuse_unfit
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest, Part
from services.router.providers.ideogram_models import SHOUTED, SURFACES, Verb, capabilities, family_of
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.retouch import inverted, padded
from services.router.providers.webhooks import CallBack, CallBackRefusedError, Ed25519Keys, body_digest

Pictures = list[tuple[str, InputImage]]

BASE = "https://api.ideogram.ai"
KEYS_PATH = "/v1/.well-known/jwks.json"
PACE = Pace(1.0, 3.0)
CHECK_TIMEOUT = 15.0
HOOK = "x-ideogram-webhook-"

STATUSES: Mapping[int, ErrorKind] = {422: ErrorKind.REFUSED}
"""422 is the vendor's word for its safety checks; a wrong field is 400."""
REASONS: Mapping[str, ErrorKind] = {
    "insufficient_funds": ErrorKind.QUOTA,
    "subscription_required": ErrorKind.QUOTA,
    "priority_credit_required": ErrorKind.QUOTA,
    "daily_limit": ErrorKind.QUOTA,
    "feature_limit": ErrorKind.QUOTA,
    "inflight_limit": ErrorKind.RATE_LIMITED,
    "content_policy_violation": ErrorKind.REFUSED,
}
"""`reject_reason` of an answer, `failure_reason` of an order."""


class Ideogram(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient, pace: Pace = PACE) -> None:
        """`account.base_url` without version; the vendor's own when empty. `account.variant` as in `SURFACES`."""
        self.name = account.provider
        self._account = account
        self._surface = SURFACES[account.variant]
        self._base = (account.base_url or BASE).rstrip("/")
        self._http = http
        self._pace = pace
        self._keys = Ed25519Keys(http, self._base + KEYS_PATH)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the account's surface."""
        return capabilities(self._account.variant)

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Order; then wait for the order, or read the answer where the surface has no orders."""
        ends = asyncio.get_running_loop().time() + call.timeout
        request = await self._request(call)
        call.before_sending()
        with ordering():
            answer = await self._http.send(request)
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        if not self.capabilities.resumable:
            return await self._result(call, told, answer.headers.get("x-request-id", ""), ends)
        order_id = told.get("generation_id")
        if not isinstance(order_id, str) or not order_id:
            raise broken("the answer names no order")
        await listener.accepted(order_id)
        return await self._wait(call, order_id, listener, ends)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Poll on."""
        return await self._wait(call, provider_request_id, listener, asyncio.get_running_loop().time() + call.timeout)

    async def check(self) -> str:
        """Whether the account's usage can be read."""
        with asking():
            answer = await self._http.send(
                HttpRequest("GET", f"{self._base}/v2/account/usage", CHECK_TIMEOUT, self._headers())
            )
        if answer.status != 200:
            raise error_of(answer)
        return "the key is accepted"

    async def verify(self, call_back: CallBack) -> str:
        """Ed25519 over order, user, time and the body's SHA-256."""
        order_id, user, timestamp, signature = (
            call_back.header(HOOK + name) for name in ("generation-id", "user-id", "timestamp", "signature")
        )
        parts = (order_id, user, timestamp, body_digest(call_back.body))
        await self._keys.verify(parts, signature, timestamp)
        try:
            named = json.loads(call_back.body)["generation_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise CallBackRefusedError("it names no order") from error
        if named != order_id:
            raise CallBackRefusedError("its header names another order")
        return order_id

    def _headers(self) -> dict[str, str]:
        return {"Api-Key": self._account.api_key.get_secret_value(), "Accept": "application/json"}

    async def _request(self, call: ProviderCall) -> HttpRequest:
        family = family_of(self._surface, call.model)
        refuse_unfit(call, family.capabilities)
        if family.capabilities.transparent_background and not call.transparent_background:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} draws transparent backgrounds only")
        verb = family.verbs[call.operation]
        if ignored := call.options.keys() - verb.options:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{verb.path} takes no option {', '.join(sorted(ignored))}")
        if not verb.sized:
            await refuse_other_size(call)
        fields, pictures = self._fields(call, verb), await _pictures(call)
        old = bool(self._account.variant)
        path = f"/v1/{call.model}/{verb.path}" if old else f"/v2/image/{verb.path}/{call.model}"
        url, headers = self._base + path, self._headers()
        if pictures or old:
            return HttpRequest("POST", url, call.timeout, headers, form=_form(fields, pictures))
        headers["Content-Type"] = "application/json"
        return HttpRequest("POST", url, call.timeout, headers, json.dumps(fields).encode())

    def _fields(self, call: ProviderCall, verb: Verb) -> dict[str, Any]:
        found = {name: of(call) for name, of in verb.fields.items()} | dict(call.options)
        fields = {name: value for name, value in found.items() if value not in (None, "")}
        if self._account.variant:
            return {name: value.upper() if name in SHOUTED else value for name, value in fields.items()}
        hook = {"webhook_url": call.callback_url} if call.callback_url else {}
        return {**fields, **hook, "async": True}

    async def _wait(self, call: ProviderCall, order_id: str, listener: Listener, ends: float) -> ProviderResult:
        url, headers = f"{self._base}/v2/generations/{quote(order_id, safe='')}", self._headers()
        order = Order(order_id, lambda seconds: HttpRequest("GET", url, seconds, headers), self._pace)
        left = ends - asyncio.get_running_loop().time()
        told = await poll(self._http, order, lambda answer: _completed(answer, order_id), left, listener)
        return await self._result(call, told, order_id, ends)

    async def _result(self, call: ProviderCall, told: dict[str, Any], order_id: str, ends: float) -> ProviderResult:
        entries = told.get("data")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
            raise broken("the answer holds no picture")
        shown = [None if entry.get("is_image_safe") is False else entry for entry in entries[: call.count]]
        if not any(shown):
            raise ProviderError(ErrorKind.REFUSED, "the provider kept its picture back", provider_request_id=order_id)
        images = [await self._image(call, entry, ends - asyncio.get_running_loop().time()) for entry in shown if entry]
        cost = told.get("usage_cost_usd_micros")
        told_cost = cost if type(cost) is int else None
        return ProviderResult(tuple(images), order_id, call.model_version, told_cost, places=kept_places(shown))

    async def _image(self, call: ProviderCall, entry: dict[str, Any], left: float) -> ProviderImage:
        address, revised = entry.get("url"), entry.get("prompt")
        if not isinstance(address, str) or not address.startswith(("https://", "http://")):
            raise broken("the answer gives no address")
        data = await download(self._http, address, left)
        return picture_of(data, entry.get("seed"), "" if revised == call.prompt else revised)


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    reason = _reason(answer.body)
    return ProviderError(
        REASONS.get(reason) or STATUSES.get(answer.status) or kind_of_status(answer.status),
        f"the provider answered {answer.status}" + (f" ({reason})" if reason else ""),
        retry_after=retry_after(answer.headers),
        status=answer.status,
    )


def _reason(body: bytes) -> str:
    try:
        return short_code(object_of(body).get("reject_reason"))
    except ProviderError:
        return ""


def _completed(answer: HttpAnswer, order_id: str) -> dict[str, Any] | None:
    if answer.status != 200:
        raise _ended(ErrorKind.UNKNOWN_OUTCOME, f"its poll was answered {answer.status}", order_id)
    told = object_of(answer.body)
    if told.get("status") == "failed":
        reason = short_code(told.get("failure_reason"))
        raise _ended(REASONS.get(reason, ErrorKind.OVERLOADED), f"the order failed ({reason})", order_id)
    return told if told.get("status") == "completed" else None


def _ended(kind: ErrorKind, message: str, order_id: str) -> ProviderError:
    return ProviderError(kind, message, provider_request_id=order_id)


async def _pictures(call: ProviderCall) -> Pictures:
    """The call's pictures by field, the mask inverted."""
    if not call.images:
        return []
    image, mask = call.images[0], call.mask
    if call.operation == "OUTPAINT":
        image, mask = await padded(image, call.margins)
    pictures = [("image", image)]
    if mask is not None:
        pictures.append(("mask", await inverted(mask)))
    return pictures + [("reference_images", further) for further in call.images[1:]]


def _form(fields: Mapping[str, Any], pictures: Pictures) -> tuple[Part, ...]:
    texts = [
        Part(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in fields.items()
    ]
    files = [
        Part(name, picture.data, f"{name}.{picture.media_type.split('/')[1]}", picture.media_type)
        for name, picture in pictures
    ]
    return (*texts, *files)
