"""fal: any maker's endpoint behind one queue (submit, poll the status, fetch the output, then its files).

Each endpoint has its own input: `fal_models` says which dialect it speaks, and its `default` serves every endpoint that
is not there (see `inputs` for describing one in the catalog). The queue never draws again on its own, never turns to
another endpoint, and is told to keep files for an hour: its own default is for ever and for everybody.

What is stored as the order's id is the order's path at the queue (`fal-ai/flux/requests/ID`): it holds what status,
output and cancel are asked by, and no address that the vendor might point elsewhere ever gets our key. Call backs name
the id alone; the path's beginning is in their address.

Settings: `platform` and `jwks`, other addresses of the price list and of the call backs' keys; `store_io: "0"`, no
payloads are kept. Sources: docs.fal.ai, fal-client 1.0.3, the platform's OpenAPI description, collected 2026-11-20.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from services.router.providers.answers import (
    asking,
    broken,
    fetched,
    json_of,
    kept_places,
    object_of,
    ordering,
    picture_of,
)
from services.router.providers.base import Account, Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fal_answers import ORDER, error_of, images_of, order_id_of, refuse_failed, refused_by
from services.router.providers.fal_models import CAPABILITIES, DIALECTS, MODELS
from services.router.providers.fal_prices import Prices
from services.router.providers.http import HttpAnswer, HttpClient, HttpError, HttpRequest
from services.router.providers.inputs import Dialects, inputs_of
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.retouch import data_url
from services.router.providers.webhooks import CallBack, CallBackRefusedError, Ed25519Keys, body_digest

QUEUE = "https://queue.fal.run"
PLATFORM = "https://api.fal.ai/v1"
JWKS = "https://rest.fal.ai/.well-known/jwks.json"
SHORT_TIMEOUT = 15.0
OUTPUT_TRIES = 3
OUTPUT_PAUSE = 0.3
PRICED = "fal-ai/flux/dev"
"""An endpoint whose price is asked for to see whether a key is accepted."""
PACE = Pace(0.5, 2.0)
HEADERS: Mapping[str, str] = {
    "X-Fal-No-Retry": "1",
    "X-App-Fal-Disable-Fallback": "true",
    "X-Fal-Object-Lifecycle-Preference": '{"expiration_duration_seconds":3600}',
}
"""With every order: drawn once, by the endpoint that was asked, kept for an hour."""
HOOK = "x-fal-webhook-"
OF = "of"
"""Parameter of a call back's address: the beginning of the order's path."""


def capabilities(variant: str) -> Capabilities:
    """What at least one endpoint can do; the catalog narrows it by model.

    Raises:
        KeyError: there is no such variant.
    """
    return {"": CAPABILITIES}[variant]


class Fal(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.base_url` is the queue's, the vendor's when empty; settings of `inputs` describe further endpoints.

        Raises:
            ValueError: a setting describes an endpoint in a way that nobody understands.
        """
        self.name = account.provider
        self._account = account
        self._base = (account.base_url or QUEUE).rstrip("/")
        self._platform = account.settings.get("platform", PLATFORM).rstrip("/")
        self._dialects = Dialects(DIALECTS, MODELS, account.settings)
        self._http = http
        self._keys = Ed25519Keys(http, account.settings.get("jwks", JWKS))
        self._prices = Prices(http, self._platform, self._headers)

    @property
    def capabilities(self) -> Capabilities:
        """Those of any endpoint."""
        return CAPABILITIES

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Queue it, store its path, wait."""
        ends = asyncio.get_running_loop().time() + call.timeout
        body = json.dumps(await inputs_of(call, self._dialects.of(call.model), data_url)).encode()
        call.before_sending()
        with ordering():
            answer = await self._http.send(self._order(call, body))
        if answer.status not in (200, 201, 202):
            raise error_of(answer)
        order_id = order_id_of(await json_of(answer.body), self._base, call.model)
        await listener.accepted(order_id)
        return await self._wait(call, order_id, listener, ends)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Poll on. An id alone, as a call back tells it, is of the call's endpoint."""
        alone = "/" not in provider_request_id
        order_id = f"{app_of(call.model)}/requests/{provider_request_id}" if alone else provider_request_id
        ends = asyncio.get_running_loop().time() + call.timeout
        result = await self._wait(call, order_id, listener, ends)
        return replace(result, provider_request_id=provider_request_id)

    async def cancel(self, provider_request_id: str) -> bool:
        """Take it out of the queue, or stop it; 400 says that it has ended."""
        url = f"{self._base}/{provider_request_id}/cancel"
        with asking():
            answer = await self._http.send(HttpRequest("PUT", url, SHORT_TIMEOUT, self._headers()))
        if answer.status not in (200, 202, 400):
            raise error_of(answer)
        return answer.status != 400

    async def check(self) -> str:
        """The account's credits; with a key that may not see them, whether it is accepted."""
        answer = await self._asked("account/billing?expand=credits")
        if answer.status in (401, 403):
            accepted = await self._asked(f"models/pricing?endpoint_id={quote(PRICED, safe='')}")
            if accepted.status == 200:
                return "the key is accepted, and may not see what is left"
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        credits_left = told.get("credits")
        left = credits_left.get("current_balance") if isinstance(credits_left, dict) else None
        return f"account {told.get('username')}, {left} USD left"

    async def verify(self, call_back: CallBack) -> str:
        """Ed25519 over the order's id, the user's, the time and the body's digest."""
        order, user, time = (call_back.header(HOOK + name) for name in ("request-id", "user-id", "timestamp"))
        parts = (order, user, time, body_digest(call_back.body))
        await self._keys.verify(parts, call_back.header(HOOK + "signature"), time)
        try:
            told = str(json.loads(call_back.body)["request_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise CallBackRefusedError("it names no order") from error
        path = f"{call_back.query.get(OF, '')}/requests/{told}"
        return path if ORDER.fullmatch(path) else told

    async def _asked(self, path: str) -> HttpAnswer:
        with asking():
            return await self._http.send(HttpRequest("GET", f"{self._platform}/{path}", SHORT_TIMEOUT, self._headers()))

    def _order(self, call: ProviderCall, body: bytes) -> HttpRequest:
        url = f"{self._base}/{call.model}"
        if call.callback_url:
            joint = "&" if "?" in call.callback_url else "?"
            told = f"{call.callback_url}{joint}{OF}={app_of(call.model)}"
            url = f"{url}?fal_webhook={quote(told, safe='')}"
        headers = {
            **self._headers(),
            **HEADERS,
            "Content-Type": "application/json",
            "X-Fal-Request-Timeout": str(math.ceil(call.timeout)),
        }
        if "store_io" in self._account.settings:
            headers["X-Fal-Store-IO"] = self._account.settings["store_io"]
        return HttpRequest("POST", url, call.timeout, headers, body)

    async def _wait(self, call: ProviderCall, order_id: str, listener: Listener, ends: float) -> ProviderResult:
        loop = asyncio.get_running_loop()
        url = f"{self._base}/{order_id.removesuffix('/response')}/status"
        order = Order(order_id, lambda timeout: HttpRequest("GET", url, timeout, self._headers()), PACE)
        told = await poll(self._http, order, lambda answer: _completed(answer, order_id), ends - loop.time(), listener)
        answer = await self._output(order_id, ends)
        if answer.status != 200:
            raise refused_by(told, order_id) or error_of(answer, order_id)
        refuse_failed(told, order_id)
        output = await json_of(answer.body)
        urls = images_of(output, order_id)[: call.count]
        seed = output.get("seed") if call.count == 1 else None
        pictures = [picture_of(await fetched(self._http, url, ends - loop.time()), seed) for url in urls if url]
        return ProviderResult(
            tuple(pictures),
            provider_request_id=order_id,
            model_version=call.model_version,
            cost_micros=await self._prices.cost_micros(call.model, answer.headers.get("x-fal-billable-units", "")),
            usage=_usage(told),
            places=kept_places(urls),
        )

    async def _output(self, order_id: str, ends: float) -> HttpAnswer:
        """The answer to the question for the output; a failed job answers with its own status, however often."""
        answer = None
        for tried in range(OUTPUT_TRIES):
            await asyncio.sleep(OUTPUT_PAUSE * tried)
            left = max(ends - asyncio.get_running_loop().time(), 1.0)
            try:
                answer = await self._http.send(
                    HttpRequest("GET", f"{self._base}/{order_id}", left / OUTPUT_TRIES, self._headers())
                )
            except HttpError:
                continue
            if answer.status < 500 and answer.status != 429:
                return answer
        if answer is None:
            raise broken("the output's address did not give it")
        return answer

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Key {self._account.api_key.get_secret_value()}"}


def app_of(model: str) -> str:
    """The part of an endpoint's id that its orders' paths begin with."""
    return "/".join(model.split("/")[:2])


def _completed(answer: HttpAnswer, order_id: str) -> dict[str, Any] | None:
    """The final status; None while it is on its way."""
    if answer.status not in (200, 202):
        raise ProviderError(
            ErrorKind.UNKNOWN_OUTCOME,
            f"the provider answered {answer.status} when asked for the order",
            provider_request_id=order_id,
            status=answer.status,
        )
    told = object_of(answer.body)
    return told if told.get("status") == "COMPLETED" else None


def _usage(told: Mapping[str, Any]) -> Mapping[str, int]:
    metrics = told.get("metrics")
    seconds = metrics.get("inference_time") if isinstance(metrics, dict) else None
    return {"milliseconds": math.ceil(seconds * 1000)} if isinstance(seconds, int | float) else {}
