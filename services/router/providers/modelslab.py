"""ModelsLab: any of its community models behind one flow (POST, then fetch again and again until it is drawn).

The key goes into every body, and nowhere else. An answer says in its body what it is: `success` with the pictures,
`processing` with an id to fetch by, `error` or `failed` with a message, all of them with 200 too. What is stored as the
order's id is its family and the vendor's id (`images/123`), because each family is fetched at an address of its own.

Call backs carry no signature: the address is unguessable, and one is believed when the vendor, asked with our key,
knows the order. Its filter is asked to blacken what it refuses, so that a refusal can be seen; the setting
`safety: "no"` leaves the filter to the account. Sources: ModelsLab/docs-v2, collected 2026-11-20.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from services.router.providers.answers import (
    asking,
    broken,
    fetched,
    json_of,
    kept_places,
    object_of,
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
    ProviderImage,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_other_size, refuse_unfit
from services.router.providers.http import HttpClient, HttpRequest
from services.router.providers.modelslab_answers import drawn, error_of, refused, whole_of
from services.router.providers.modelslab_fields import CALLS, CAPABILITIES, Material
from services.router.providers.polling import Order, Pace, poll
from services.router.providers.retouch import data_url, is_black, padded, size_of
from services.router.providers.webhooks import CallBack, CallBackRefusedError

Body = dict[str, Any]

BASE_URL = "https://modelslab.com/api/v6"
SHORT_TIMEOUT = 15.0
PACE = Pace(1.0, 3.0)
LONGEST, STEP = 1024, 8
"""Edges that are drawn: up to this, in these steps."""
UNSIZED = ("UPSCALE", "REMOVE_BACKGROUND")
"""Operations that take no size, and whose results no filter blackens."""
OF = "of"
"""Parameter of a call back's address: the order's family."""
ORDER = re.compile(r"(images|image_editing)/[\w-]{1,100}")


def capabilities(variant: str) -> Capabilities:
    """What its models can do; the catalog narrows it by model.

    Raises:
        KeyError: there is no such variant.
    """
    return {"": CAPABILITIES}[variant]


class ModelsLab(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.base_url` with version, the vendor's when empty."""
        self.name = account.provider
        self._account = account
        self._base = (account.base_url or BASE_URL).rstrip("/")
        self._http = http

    @property
    def capabilities(self) -> Capabilities:
        """Those of any model."""
        return CAPABILITIES

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST, store the id, wait unless it is drawn already."""
        refuse_unfit(call, CAPABILITIES)
        ends = asyncio.get_running_loop().time() + call.timeout
        path, fields = CALLS[call.operation]
        body = self._body(call, path, fields(await self._material(call, ends)))
        call.before_sending()
        with ordering():
            answer = await self._http.send(self._post(path, body, call.timeout))
        told = await json_of(answer.body) if answer.status == 200 else {}
        if answer.status != 200 or told.get("status") not in ("success", "processing"):
            raise error_of(answer)
        order_id = f"{path.partition('/')[0]}/{told.get('id')}"
        if not ORDER.fullmatch(order_id) or told.get("id") is None:
            raise broken("the answer names no order")
        await listener.accepted(order_id)
        if told.get("status") == "success" and told.get("output"):
            return await self._result(call, order_id, told, ends)
        return await self._wait(call, order_id, listener, ends)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """Fetch on."""
        return await self._wait(call, provider_request_id, listener, asyncio.get_running_loop().time() + call.timeout)

    async def check(self) -> str:
        """What is left in the wallet."""
        told = await self._asked(f"{self._base.removesuffix('/v6')}/wallet_balance", {}, SHORT_TIMEOUT)
        data = told.get("data")
        left = data if isinstance(data, dict) else {}
        return f"{left.get('balance')} {left.get('currency', 'USD')} left"

    async def verify(self, call_back: CallBack) -> str:
        """The order that it names, if the vendor knows it."""
        try:
            order_id = f"{call_back.query.get(OF, 'images')}/{json.loads(call_back.body)['id']}"
        except (ValueError, KeyError, TypeError) as error:
            raise CallBackRefusedError("it names no order") from error
        if not ORDER.fullmatch(order_id):
            raise CallBackRefusedError("it names no order")
        try:
            with asking():
                answer = await self._http.send(self._fetching(order_id, SHORT_TIMEOUT))
            known = answer.status == 200 and str(object_of(answer.body).get("id")) == order_id.rpartition("/")[2]
        except ProviderError as error:
            raise CallBackRefusedError("the vendor cannot be asked about it now") from error
        if not known:
            raise CallBackRefusedError("the vendor knows no such order")
        return order_id

    async def _material(self, call: ProviderCall, ends: float) -> Material:
        images, mask, width, height = call.images, call.mask, call.width, call.height
        if call.mask is not None or call.operation == "OUTPAINT":
            await refuse_other_size(call)
        if call.operation == "OUTPAINT":
            first, mask = await padded(images[0], call.margins)
            images = (first,)
        if images and not width:
            width, height = await size_of(images[0])
        if call.operation in UNSIZED:
            width = height = 0
        if max(width, height) > LONGEST or width % STEP or height % STEP:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} draws no picture of {width}x{height}")
        control = call.controls[0].image if call.controls else None
        return Material(
            call,
            width,
            height,
            image=await self._handed_in(images[0], ends) if images else "",
            mask=await self._handed_in(mask, ends) if mask else "",
            control=await self._handed_in(control, ends) if control else "",
        )

    async def _handed_in(self, image: InputImage, ends: float) -> str:
        """An address at the vendor: not every call takes pictures themselves."""
        left = max(ends - asyncio.get_running_loop().time(), 0.0)
        url = f"{self._base}/image_editing/base64_to_url"
        with preparing():
            told = await self._asked(url, {"init_image": await data_url(image)}, left)
            output = told.get("output")
            address = output[0] if isinstance(output, list) and output else output
            if not isinstance(address, str) or not address.startswith("http"):
                raise broken("the upload has no address")
            return address

    def _body(self, call: ProviderCall, path: str, fields: Body) -> Body:
        body = {name: value for name, value in fields.items() if value not in (None, "")}
        if path.startswith("images/"):
            body.update(call.options)
            if self._account.settings.get("safety") != "no":
                body.update(safety_checker="yes", safety_checker_type="black")
        if call.callback_url:
            joint = "&" if "?" in call.callback_url else "?"
            body["webhook"] = f"{call.callback_url}{joint}{OF}={path.partition('/')[0]}"
        return body

    def _post(self, path: str, body: Body, timeout: float) -> HttpRequest:
        keyed = {"key": self._account.api_key.get_secret_value(), **body}
        url = path if path.startswith("http") else f"{self._base}/{path}"
        return HttpRequest("POST", url, timeout, {"Content-Type": "application/json"}, json.dumps(keyed).encode())

    def _fetching(self, order_id: str, timeout: float) -> HttpRequest:
        family, _, vendor_id = order_id.partition("/")
        return self._post(f"{family}/fetch/{vendor_id}", {}, timeout)

    async def _asked(self, url: str, body: Body, timeout: float) -> Body:
        with asking():
            answer = await self._http.send(self._post(url, body, timeout))
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        if told.get("status") != "success":
            raise error_of(answer)
        return told

    async def _wait(self, call: ProviderCall, order_id: str, listener: Listener, ends: float) -> ProviderResult:
        left = ends - asyncio.get_running_loop().time()
        order = Order(order_id, lambda timeout: self._fetching(order_id, timeout), PACE)
        told = await poll(self._http, order, lambda answer: drawn(answer, order_id), left, listener)
        return await self._result(call, order_id, told, ends)

    async def _result(self, call: ProviderCall, order_id: str, told: Body, ends: float) -> ProviderResult:
        if told.get("nsfw_content_detected") is True:
            raise refused(order_id)
        output = told.get("output")
        urls = [output] if isinstance(output, str) else output
        if not isinstance(urls, list) or not all(isinstance(url, str) and url.startswith("http") for url in urls):
            raise broken("the answer holds no picture")
        seed = whole_of(told.get("meta"), "seed") if len(urls) == 1 else None
        pictures = [await self._picture(url, seed, ends) for url in urls[: call.count]]
        checked = call.operation not in UNSIZED
        shown = [None if checked and await is_black(picture.data) else picture for picture in pictures]
        if not any(shown):
            raise refused(order_id)
        kept = tuple(picture for picture in shown if picture is not None)
        return ProviderResult(kept, order_id, call.model_version, places=kept_places(shown))

    async def _picture(self, url: str, seed: int | None, ends: float) -> ProviderImage:
        return picture_of(await fetched(self._http, url, ends - asyncio.get_running_loop().time()), seed)
