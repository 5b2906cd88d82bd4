"""Black Forest Labs: every FLUX model behind one asynchronous flow (submit, poll, fetch from a signed address).

The models differ in their fields; that is the table of `bfl_families`, chosen by the model's name (an account's variant
may name one). A polling address is believed only on hosts of the vendor; a call back is no more than a reason to poll.

What is stored as the order's id: the vendor's id, and `@address` after it where the order is polled at another address.
Sources: the vendor's API description of 2026-05 and docs.bfl.ai, collected 2026-11-20.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

from services.router.providers.answers import (
    asking,
    broken,
    download,
    json_of,
    kind_of_status,
    object_of,
    ordering,
    picture_of,
    retry_after,
)
from services.router.providers.base import (
    Account,
    Capabilities,
    Listener,
    Provider,
    ProviderCall,
    ProviderResult,
)
from services.router.providers.bfl_families import Body, capabilities, family_of
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_other_size, refuse_unfit
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest
from services.router.providers.polling import ASK_AGAIN, Order, Pace, poll
from services.router.providers.rates import rate_hint
from services.router.providers.retouch import base64_text
from services.router.providers.webhooks import CallBack, CallBackRefusedError, hmac_sha256

GLOBAL = "https://api.bfl.ai"
"""Routes to any region and has no memory of orders: these are polled at the address it tells. So no call backs here,
whose orders come without an address."""
CHECK_TIMEOUT = 15.0
KEEP_SIZE = frozenset({"INPAINT", "OUTPAINT"})
CREDIT_MICROS = 10_000
"""A credit is one US cent (docs.bfl.ai/quick_start/pricing)."""
PACE = Pace(0.5, 1.5)
AMBIGUOUS = 503
"""A poll's status both of a vendor that is busy and of a task that failed; the body tells which."""
STATES: Mapping[str, ErrorKind] = {
    "Request Moderated": ErrorKind.REFUSED,
    "Content Moderated": ErrorKind.REFUSED,
    "Error": ErrorKind.OVERLOADED,
    "Failed": ErrorKind.OVERLOADED,
    "Task not found": ErrorKind.UNKNOWN_OUTCOME,
}
"""Final states besides `Ready`; any other one means that it is on its way."""


class Bfl(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient, pace: Pace = PACE) -> None:
        """`account.base_url` without version (the vendor's global one when empty); `account.variant` a family."""
        self.name = account.provider
        self._account = account
        self._base = (account.base_url or GLOBAL).rstrip("/")
        self._http = http
        self._pace = pace
        key = account.api_key.get_secret_value().encode()
        self._hook_secret = hmac.new(key, b"call backs to imagemesh", hashlib.sha256).hexdigest()

    @property
    def capabilities(self) -> Capabilities:
        """Those of the account's family, or of all."""
        return capabilities(self._account.variant)

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Order, store the id, wait."""
        ends = asyncio.get_running_loop().time() + call.timeout
        body = await self._body(call)
        call.before_sending()
        with ordering():
            answer = await self._http.send(self._request("POST", f"{self._base}/v1/{call.model}", call.timeout, body))
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        request_id = self._order_id(told)
        await listener.accepted(request_id)
        result = await self._wait(call, request_id, listener, ends)
        cost = told.get("cost")
        micros = math.ceil(cost * CREDIT_MICROS) if isinstance(cost, int | float) else None
        return replace(result, cost_micros=micros, rate=rate_hint(answer.headers))

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Poll on."""
        return await self._wait(call, provider_request_id, listener, asyncio.get_running_loop().time() + call.timeout)

    async def check(self) -> str:
        """The credits that are left."""
        with asking():
            answer = await self._http.send(self._request("GET", f"{self._base}/v1/credits", CHECK_TIMEOUT))
        if answer.status != 200:
            raise error_of(answer)
        return f"{(await json_of(answer.body)).get('credits')} credits left"

    async def verify(self, call_back: CallBack) -> str:
        """The HMAC under the secret that each order carries; the header is documented only in the vendor's samples."""
        hmac_sha256(call_back, "x-bfl-signature", self._hook_secret)
        try:
            return str(json.loads(call_back.body)["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise CallBackRefusedError("it names no order") from error

    async def _body(self, call: ProviderCall) -> Body:
        family = family_of(self._account.variant or call.model)
        refuse_unfit(call, family.capabilities)
        if call.operation in KEEP_SIZE:
            await refuse_other_size(call)
        images = [await base64_text(image.data) for image in call.images]
        mask = await base64_text(call.mask.data) if call.mask else ""
        body = {"prompt": call.prompt, "seed": call.seed, **family.fields(call), **family.sources(images, mask)}
        if call.callback_url and self._base != GLOBAL:
            body.update(webhook_url=call.callback_url, webhook_secret=self._hook_secret)
        return {name: value for name, value in body.items() if value not in (None, "")} | dict(call.options)

    def _request(self, method: str, url: str, timeout: float, body: Body | None = None) -> HttpRequest:
        headers = {"x-key": self._account.api_key.get_secret_value(), "Accept": "application/json"}
        if body is None:
            return HttpRequest(method, url, timeout, headers)
        return HttpRequest(
            method, url, timeout, headers | {"Content-Type": "application/json"}, json.dumps(body).encode()
        )

    def _order_id(self, told: Body) -> str:
        order_id, address = told.get("id"), told.get("polling_url")
        if not isinstance(order_id, str) or not order_id or "@" in order_id:
            raise broken("the answer names no order")
        known = not isinstance(address, str) or address == self._polling_url(order_id)
        return order_id if known or not self._trusted(str(address)) else f"{order_id}@{address}"

    def _polling_url(self, request_id: str) -> str:
        order_id, _, address = request_id.partition("@")
        return address if self._trusted(address) else f"{self._base}/v1/get_result?id={quote(order_id, safe='')}"

    def _trusted(self, address: str) -> bool:
        """Whether the address is the vendor's, so that it may be shown the key."""
        to, base = urlsplit(address), urlsplit(self._base)
        vendors = to.scheme == "https" and (to.netloc == "bfl.ai" or to.netloc.endswith(".bfl.ai"))
        return vendors or (to.scheme, to.netloc) == (base.scheme, base.netloc)

    async def _wait(self, call: ProviderCall, request_id: str, listener: Listener, ends: float) -> ProviderResult:
        left = ends - asyncio.get_running_loop().time()
        url = self._polling_url(request_id)
        order = Order(
            request_id, lambda seconds: self._request("GET", url, seconds), self._pace, ASK_AGAIN - {AMBIGUOUS}
        )
        result = await poll(self._http, order, lambda answer: _result(answer, request_id, listener), left, listener)
        data = await download(self._http, str(result.get("sample")), ends - asyncio.get_running_loop().time())
        revised = result.get("prompt")
        image = picture_of(data, result.get("seed", call.seed), "" if revised == call.prompt else revised)
        return ProviderResult((image,), request_id, call.model_version)


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    return ProviderError(
        kind_of_status(answer.status),
        f"the provider answered {answer.status}",
        retry_after=retry_after(answer.headers),
        rate=rate_hint(answer.headers),
        status=answer.status,
    )


def _result(answer: HttpAnswer, request_id: str, listener: Listener) -> Body | None:
    if answer.status == AMBIGUOUS and not answer.body.lstrip().startswith(b"{"):
        return None
    if answer.status not in (200, AMBIGUOUS):
        raise _ended(ErrorKind.UNKNOWN_OUTCOME, f"its poll was answered {answer.status}", request_id)
    told = object_of(answer.body)
    state = str(told.get("status"))
    if isinstance(done := told.get("progress"), int | float):
        listener.progress(round(done * 100), 100)
    if state in STATES:
        raise _ended(STATES[state], f"the provider says {state}", request_id)
    if state == "Ready" and not isinstance(told.get("result"), dict):
        raise broken("the answer holds no picture")
    return told["result"] if state == "Ready" else None


def _ended(kind: ErrorKind, message: str, request_id: str) -> ProviderError:
    return ProviderError(kind, message, provider_request_id=request_id)
