"""Replicate: any maker's model behind one asynchronous flow (create a prediction, poll it, fetch from its addresses).

`input` is each model's own: `replicate_models` says which dialect a model speaks, and its `default` serves every model
that is not there (see `inputs` for describing one in the catalog). A model is `owner/name` where it is
official, `owner/name:version` else; with the variant `deployment` it names a deployment.

Account: key = API token; secret `webhook` = the signing secret (`whsec_…`), without which nobody is told to call back.
Sources: the vendor's OpenAPI description and docs, and the models' API pages, collected 2026-11-20.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from typing import Any

from services.router.providers.answers import (
    asking,
    broken,
    fetched,
    json_of,
    ordering,
    picture_of,
    preparing,
)
from services.router.providers.base import (
    Account,
    Capabilities,
    InputImage,
    Listener,
    Provider,
    ProviderCall,
    ProviderResult,
)
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest, Part
from services.router.providers.inputs import Dialects, inputs_of
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.replicate_answers import UNBILLED, addresses, error_of, filtered, final, usage_of
from services.router.providers.replicate_models import CAPABILITIES, DIALECTS, MODELS
from services.router.providers.retouch import data_url
from services.router.providers.webhooks import CallBack, CallBackRefusedError, standard_webhooks

BASE_URL = "https://api.replicate.com/v1"
SHORT_TIMEOUT = 15.0
INLINE_BYTES = 256 * 1024
"""Pictures above this are uploaded first, as the vendor advises."""
SPARE_S = 300
"""Seconds after our own patience at which the vendor calls a prediction off that nobody waits for any more."""
PACE = Pace(0.5, 2.0)


def capabilities(variant: str) -> Capabilities:
    """What at least one model can do; the catalog narrows it by model.

    Raises:
        KeyError: there is no such variant.
    """
    return {"": CAPABILITIES, "deployment": CAPABILITIES}[variant]


class Replicate(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.base_url` with version, the vendor's when empty; settings of `inputs` describe further models.

        Raises:
            ValueError: a setting describes a model in a way that nobody understands.
        """
        self.name = account.provider
        self._account = account
        self._base = (account.base_url or BASE_URL).rstrip("/")
        self._dialects = Dialects(DIALECTS, MODELS, account.settings)
        self._http = http

    @property
    def capabilities(self) -> Capabilities:
        """Those of any model."""
        return capabilities(self._account.variant)

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Create a prediction, store its id, wait."""
        ends = asyncio.get_running_loop().time() + call.timeout
        request = await self._creation(call)
        call.before_sending()
        with ordering():
            answer = await self._http.send(request)
        if answer.status not in (200, 201, 202):
            raise error_of(answer)
        request_id = (await json_of(answer.body)).get("id")
        if not isinstance(request_id, str) or not re.fullmatch(r"[\w-]{1,100}", request_id):
            raise broken("the answer names no prediction")
        await listener.accepted(request_id)
        return await self._wait(call, request_id, listener, ends)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Poll on."""
        return await self._wait(call, provider_request_id, listener, asyncio.get_running_loop().time() + call.timeout)

    async def cancel(self, provider_request_id: str) -> bool:
        """Call the prediction off; one that has ended stays as it is, and one that had begun is billed."""
        told = await self._asked("POST", f"/predictions/{provider_request_id}/cancel")
        return told.get("status") in UNBILLED

    async def check(self) -> str:
        """Whose token it is."""
        told = await self._asked("GET", "/account")
        return f"account {told.get('username')} ({told.get('type')})"

    async def verify(self, call_back: CallBack) -> str:
        """Standard Webhooks under the account's signing secret; the body is the prediction."""
        secret = self._account.secret("webhook")
        if not secret:
            raise CallBackRefusedError("the account has no signing secret")
        standard_webhooks(call_back, secret, time.time())
        try:
            return str(json.loads(call_back.body)["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise CallBackRefusedError("it names no prediction") from error

    async def _creation(self, call: ProviderCall) -> HttpRequest:
        deadline = asyncio.get_running_loop().time() + call.timeout
        inputs = await inputs_of(call, self._dialects.of(call.model), lambda image: self._handed_in(image, deadline))
        body: dict[str, Any] = {"input": inputs}
        path = f"/deployments/{call.model}/predictions"
        if self._account.variant != "deployment":
            path, body["version"] = "/predictions", call.model
        if call.callback_url and self._account.secret("webhook"):
            body.update(webhook=call.callback_url, webhook_events_filter=["completed"])
        headers = {
            **self._headers(),
            "Content-Type": "application/json",
            "Cancel-After": f"{math.ceil(call.timeout) + SPARE_S}s",
        }
        left = deadline - asyncio.get_running_loop().time()
        return HttpRequest("POST", self._base + path, max(left, 0.0), headers, json.dumps(body).encode())

    async def _handed_in(self, image: InputImage, deadline: float) -> str:
        if len(image.data) <= INLINE_BYTES:
            return await data_url(image)
        left = max(deadline - asyncio.get_running_loop().time(), 0.0)
        file = Part("content", image.data, "input." + image.media_type.partition("/")[2], image.media_type)
        request = HttpRequest("POST", f"{self._base}/files", left, self._headers(), form=(file,))
        with preparing():
            answer = await self._http.send(request)
            if answer.status not in (200, 201):
                raise error_of(answer)
            urls = (await json_of(answer.body)).get("urls")
            if not isinstance(urls, dict) or not isinstance(urls.get("get"), str):
                raise broken("the upload has no address")
            return str(urls["get"])

    async def _wait(self, call: ProviderCall, request_id: str, listener: Listener, ends: float) -> ProviderResult:
        loop = asyncio.get_running_loop()
        url = f"{self._base}/predictions/{request_id}"
        order = Order(request_id, lambda timeout: HttpRequest("GET", url, timeout, self._headers()), PACE)

        def read(answer: HttpAnswer) -> dict[str, Any] | None:
            return final(answer, request_id, listener.progress)

        told = await poll(self._http, order, read, ends - loop.time(), listener)
        urls = [*addresses(told.get("output"))][: call.count]
        if not urls:
            raise broken("the prediction holds no picture")
        images = [picture_of(await self._fetched(url, ends - loop.time())) for url in urls]
        version = told.get("version")
        return ProviderResult(
            tuple(images),
            provider_request_id=request_id,
            model_version=version if isinstance(version, str) and version != "hidden" else call.model_version,
            usage=usage_of(told.get("metrics")),
            places=tuple(range(len(images))) if len(images) < call.count and filtered(told.get("logs")) else None,
        )

    async def _fetched(self, url: str, left: float) -> bytes:
        """Files lie at public addresses, but those under the API's own want the key."""
        ours = url.startswith(f"{self._base}/")
        return await fetched(self._http, url, left, self._headers() if ours else {})

    async def _asked(self, method: str, path: str) -> dict[str, Any]:
        with asking():
            answer = await self._http.send(HttpRequest(method, self._base + path, SHORT_TIMEOUT, self._headers()))
        if answer.status != 200:
            raise error_of(answer)
        return await json_of(answer.body)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._account.api_key.get_secret_value()}"}
