"""Adobe Firefly: pictures are handed in first, every order is asynchronous, results lie at signed addresses an hour.

`account.api_key` is the client's id; secret `client_secret`. Settings: `ims` and `scope` where tokens come from another
place or for other scopes. A custom model is named `image4_custom:ID`. The model of fills is `fill`, of expansions
`expand`, which the vendor is not told.

What is stored as the order's id: the vendor's id, and `@address` after it where the order is polled at another host of
Adobe's. Sources: the vendor's API description of 2026-05-27 and its pages on authentication, collected 2026-11-20.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote, unquote, urlencode, urlsplit

from services.router.providers.answers import asking, broken, download, json_of, ordering, picture_of
from services.router.providers.base import (
    Account,
    Capabilities,
    InputImage,
    Listener,
    Provider,
    ProviderCall,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.firefly_answers import error_of, finished, order_of, outputs_of
from services.router.providers.firefly_fields import CUSTOM, Body, Handed
from services.router.providers.firefly_models import body_of, capabilities, service_of, sized
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.tokens import TOKEN_TIMEOUT, Tokens, granted

BASE = "https://firefly-api.adobe.io"
IMS = "https://ims-na1.adobelogin.com"
SCOPE = "openid,AdobeID,session,additional_info,read_organizations,firefly_api,ff_apis"
CLIENT_SECRET = "client_secret"
SHORT_TIMEOUT = 15.0
PACE = Pace(1.0, 2.0)
EARLY = 3600.0
"""Tokens hold for a day; the last hour is not used, so that none ends while an order is polled."""


class Firefly(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient, pace: Pace = PACE) -> None:
        """`account.base_url` without version (the vendor's own when empty); `account.variant` a key of `VARIANTS`."""
        self.name = account.provider
        self._account = account
        self._able = capabilities(account.variant)
        self._base = (account.base_url or BASE).rstrip("/")
        self._http = http
        self._pace = pace
        self._tokens = Tokens(self._fetch, EARLY)

    @property
    def capabilities(self) -> Capabilities:
        """Those of any model; the catalog narrows them by model."""
        return self._able

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Hand the pictures in, order, store the id, wait."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + call.timeout
        service = service_of(call)
        call = await sized(call)
        body_of(service, call, Handed.nothing(call))  # before a picture goes out for what is refused here
        token = await self._tokens.bearer(ends - loop.time())
        body = body_of(service, call, await self._handed(call, token, ends))
        named = {"x-model-version": call.model.partition(CUSTOM)[0]} if service.named else {}
        headers = {**self._headers(token), **named, "Content-Type": "application/json"}
        left = max(ends - loop.time(), 0.0)
        request = HttpRequest("POST", self._base + service.path, left, headers, json.dumps(body).encode())
        call.before_sending()
        with ordering():
            answer = await self._http.send(request)
        if answer.status not in (200, 202):
            raise self._refused(answer, token)
        order_id, address = order_of(await json_of(answer.body))
        request_id = order_id if self._known(order_id, address) else f"{order_id}@{address}"
        await listener.accepted(request_id)
        return await self._wait(call, request_id, listener, ends)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Poll on."""
        return await self._wait(call, provider_request_id, listener, asyncio.get_running_loop().time() + call.timeout)

    async def cancel(self, provider_request_id: str) -> bool:
        """Call the job off; one that has ended, or is no longer known, stays as it is."""
        url = self._job_url(provider_request_id).replace("/status/", "/cancel/", 1)
        answer = await self._asked("PUT", url, (200, 202, 204, 404, 409, 410))
        return answer.status < 300

    async def check(self) -> str:
        """How many custom models the organisation has."""
        answer = await self._asked("GET", f"{self._base}/v3/custom-models", (200,))
        listed = (await json_of(answer.body)).get("custom_models")
        return f"it knows us; {len(listed) if isinstance(listed, list) else 0} custom models"

    async def _handed(self, call: ProviderCall, token: str, ends: float) -> Handed:
        images = [await self._upload(image, token, ends) for image in call.images]
        mask = await self._upload(call.mask, token, ends) if call.mask else ""
        controls = [await self._upload(control.image, token, ends) for control in call.controls]
        return Handed(tuple(images), mask, tuple(controls))

    async def _upload(self, image: InputImage, token: str, ends: float) -> str:
        """The id under which the vendor keeps a picture for seven days."""
        headers = {**self._headers(token), "Content-Type": image.media_type}
        left = max(ends - asyncio.get_running_loop().time(), 0.0)
        with asking():
            answer = await self._http.send(
                HttpRequest("POST", f"{self._base}/v2/storage/image", left, headers, image.data)
            )
        if answer.status not in (200, 201):
            raise self._refused(answer, token, orders=False)
        try:
            return str((await json_of(answer.body))["images"][0]["id"])
        except (ProviderError, LookupError, TypeError) as error:  # nothing was ordered
            raise ProviderError(ErrorKind.OVERLOADED, "the upload has no id") from error

    async def _wait(self, call: ProviderCall, request_id: str, listener: Listener, ends: float) -> ProviderResult:
        loop = asyncio.get_running_loop()
        result = await self._polled(request_id, listener, ends)
        outputs = [*outputs_of(result)][: call.count]
        if not outputs:
            raise broken("the answer holds no picture")
        images = [picture_of(await download(self._http, url, ends - loop.time()), seed) for url, seed in outputs]
        version = result.get("version")
        return ProviderResult(tuple(images), request_id, version if isinstance(version, str) else call.model_version)

    async def _polled(self, request_id: str, listener: Listener, ends: float) -> Body:
        """The finished job. A token that ends on the way, or was refused, is replaced once."""
        loop = asyncio.get_running_loop()
        url = self._job_url(request_id)
        for last in (False, True):
            token = await self._token(request_id, ends)
            headers = self._headers(token)
            order = Order(request_id, lambda left, sent=headers: HttpRequest("GET", url, left, sent), self._pace)  # type: ignore[misc]
            try:
                return await poll(
                    self._http, order, lambda answer: finished(answer, request_id), ends - loop.time(), listener
                )
            except ProviderError as error:
                if error.status != 401 or last:
                    raise
                self._tokens.forget(token)
        raise AssertionError("unreachable")

    async def _token(self, request_id: str, ends: float) -> str:
        """A token to poll with: without one, the order's outcome is not known."""
        try:
            return await self._tokens.bearer(max(ends - asyncio.get_running_loop().time(), 0.0))
        except ProviderError as error:
            raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, error.message, provider_request_id=request_id) from error

    async def _asked(self, method: str, url: str, fine: tuple[int, ...]) -> HttpAnswer:
        token = await self._tokens.bearer(SHORT_TIMEOUT)
        with asking():
            answer = await self._http.send(HttpRequest(method, url, SHORT_TIMEOUT, self._headers(token)))
        if answer.status not in fine:
            raise self._refused(answer, token, orders=False)
        return answer

    def _refused(self, answer: HttpAnswer, token: str, *, orders: bool = True) -> ProviderError:
        if answer.status == 401:
            self._tokens.forget(token)
        return error_of(answer, orders=orders)

    def _headers(self, token: str) -> dict[str, str]:
        key = self._account.api_key.get_secret_value()
        return {"Authorization": f"Bearer {token}", "x-api-key": key, "Accept": "application/json"}

    def _job_url(self, request_id: str) -> str:
        order_id, _, address = request_id.partition("@")
        return address if self._trusted(address) else f"{self._base}/v3/status/{quote(order_id, safe=':')}"

    def _known(self, order_id: str, address: str) -> bool:
        """Whether the order is polled where its id alone leads, or must be, because the address is not Adobe's."""
        return not self._trusted(address) or unquote(address) == unquote(self._job_url(order_id))

    def _trusted(self, address: str) -> bool:
        """Whether the address is the vendor's, so that it may be shown key and token."""
        to, base = urlsplit(address), urlsplit(self._base)
        adobes = to.scheme == "https" and to.netloc.endswith(".adobe.io")
        return adobes or (to.scheme, to.netloc) == (base.scheme, base.netloc)

    async def _fetch(self) -> tuple[str, float]:
        settings = self._account.settings
        fields = {
            "grant_type": "client_credentials",
            "client_id": self._account.api_key.get_secret_value(),
            "client_secret": self._account.secret(CLIENT_SECRET),
            "scope": settings.get("scope", SCOPE),
        }
        url = f"{settings.get('ims', IMS).rstrip('/')}/ims/token/v3"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = HttpRequest("POST", url, TOKEN_TIMEOUT, headers, urlencode(fields).encode())
        return await granted(self._http, request, "Adobe IMS")
