"""AUTOMATIC1111's web UI and Forge, on a server of one's own: its REST API under `/sdapi/v1`.

One call draws at a time and further ones wait, so a long timeout is theirs. The checkpoint is named with each call, by
title, file name or hash; servers draw with another one where they do not know it, so the answer's is compared. Its hash
is the model's version. What is drawn follows the source's size to multiples of 8; anything beyond is cut off again.

How far a call is comes from the UI's own route, which is asked about our task alone: the documented one tells of
whatever job runs. For the same reason nothing is ever called off here: `/interrupt` stops anybody's job.

A scheduler is a sampler, or `sampler/schedule` (`dpmpp_2m/karras`). The key is `user:password` where the server has
`--api-auth`. Settings: a model's name in the catalog (`esrgan-x4`) stands for one like `R-ESRGAN 4x+`;
`control.canny` and the like hold the ControlNet preprocessor and model for a kind of control (`canny,
control_v11p_sd15_canny [d14c016b]`). Sources: modules/api/{api,models}.py and modules/progress.py of
AUTOMATIC1111/stable-diffusion-webui, Mikubill/sd-webui-controlnet's API page.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator

from services.router.providers.a1111_fields import (
    CAPABILITIES,
    PATHS,
    SAMPLERS,
    UPSCALE,
    Body,
    drawn_by,
    sources,
)
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
)
from services.router.providers.base import (
    Account,
    Capabilities,
    ControlImage,
    Listener,
    Provider,
    ProviderCall,
    ProviderImage,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_unfit
from services.router.providers.http import HttpAnswer, HttpClient, HttpError, HttpRequest
from services.router.providers.media import media_type_of
from services.router.providers.padding import Shaped, shaped
from services.router.providers.retouch import base64_text

SHORT_TIMEOUT = 15.0
PAUSE = 0.5
"""Seconds between questions for the progress."""


def capabilities(variant: str) -> Capabilities:
    """What such a server can do; controls only those that the account's settings describe.

    Raises:
        KeyError: there is no such variant.
    """
    return {"": CAPABILITIES, "forge": CAPABILITIES}[variant]


class WebUi(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient, pause: float = PAUSE) -> None:
        """`account.base_url` without `/sdapi`. `pause`: seconds between questions for the progress."""
        self.name = account.provider
        self._base = account.base_url.rstrip("/")
        self._settings = account.settings
        self._http = http
        self._pause = pause
        key = account.api_key.get_secret_value()
        basic = {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"} if key else {}
        self._headers = {"Content-Type": "application/json", **basic}

    @property
    def capabilities(self) -> Capabilities:
        """Those of any such server."""
        return CAPABILITIES

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST, tell how far it is, read the pictures."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + call.timeout
        refuse_unfit(call, CAPABILITIES)
        order = Shaped(call) if call.operation == UPSCALE else await shaped(call, frozenset({"IMAGE_TO_IMAGE"}))
        fields = await self._upscaling(call) if call.operation == UPSCALE else await self._drawing(order.call)
        request = self._post(f"/sdapi/v1/{PATHS.get(call.operation, 'img2img')}", fields, ends - loop.time())
        call.before_sending()
        async with self._telling(call, listener):
            with ordering():
                answer = await self._http.send(request)
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        if call.operation == UPSCALE:
            return ProviderResult((picture_of(await bytes_of(told.get("image"))),), call.attempt_id)
        return await self._result(order, told)

    async def check(self) -> str:
        """How many checkpoints the server has."""
        with asking():
            answer = await self._http.send(
                HttpRequest("GET", f"{self._base}/sdapi/v1/sd-models", SHORT_TIMEOUT, self._headers)
            )
        if answer.status != 200:
            raise error_of(answer)
        listed = object_of(b'{"models":' + answer.body + b"}")["models"]
        return f"{len(listed)} checkpoints"

    async def _drawing(self, call: ProviderCall) -> Body:
        sampler, _, schedule = call.scheduler.partition("/")
        fields: Body = {
            "prompt": call.prompt,
            "negative_prompt": call.negative_prompt,
            "seed": call.seed,
            "steps": call.steps,
            "cfg_scale": call.guidance,
            "sampler_name": SAMPLERS.get(sampler, sampler),
            "scheduler": schedule,
            "width": call.width or None,
            "height": call.height or None,
            "batch_size": call.count if call.count > 1 else None,
            "override_settings": {"sd_model_checkpoint": self._named(call.model)},
            "force_task_id": call.attempt_id,
            **(await sources(call) if call.images else {}),
            **call.options,
        }
        if call.controls:
            units = [await self._control(control) for control in call.controls]
            fields["alwayson_scripts"] = {"controlnet": {"args": units}}
        return {name: value for name, value in fields.items() if value not in (None, "")}

    async def _upscaling(self, call: ProviderCall) -> Body:
        return {
            "resize_mode": 0,
            "upscaling_resize": call.upscale_factor or CAPABILITIES.upscale_factors[0],
            "upscaler_1": self._named(call.model),
            "image": await base64_text(call.images[0].data),
        }

    async def _control(self, control: ControlImage) -> Body:
        module, _, model = self._settings.get(f"control.{control.kind}", "").partition(",")
        if not model:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{self.name} has no ControlNet for {control.kind}")
        unit: Body = {"enabled": True, "module": module.strip(), "model": model.strip()}
        weight = {} if control.scale is None else {"weight": control.scale}
        return {**unit, **weight, "image": await base64_text(control.image.data)}

    def _named(self, model: str) -> str:
        return self._settings.get(model, model)

    def _post(self, path: str, body: Body, timeout: float) -> HttpRequest:
        return HttpRequest("POST", self._base + path, max(timeout, 0.0), self._headers, json.dumps(body).encode())

    @contextlib.asynccontextmanager
    async def _telling(self, call: ProviderCall, listener: Listener) -> AsyncIterator[None]:
        """Tells how far our own task is while the call waits for its answer."""
        asked = asyncio.create_task(self._watch(call, listener))
        try:
            yield
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def _watch(self, call: ProviderCall, listener: Listener) -> None:
        seen = -1
        while True:
            await asyncio.sleep(self._pause)
            body = {"id_task": call.attempt_id, "id_live_preview": seen}
            try:
                answer = await self._http.send(self._post("/internal/progress", body, SHORT_TIMEOUT))
                told = object_of(answer.body) if answer.status == 200 else {}
            except (HttpError, ProviderError):
                continue
            if not told:
                return  # a server without UI has no such route
            if told.get("active") is True:
                seen = await _show(told, seen, listener)

    async def _result(self, order: Shaped, told: Body) -> ProviderResult:
        call, info = order.call, object_of(str(told.get("info")).encode())
        wanted = self._named(call.model)
        if not drawn_by(info, wanted):
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{self.name} has no checkpoint {call.model}")
        texts, seeds = told.get("images"), info.get("all_seeds")
        first = info.get("index_of_first_image")
        if not isinstance(texts, list) or not texts or not isinstance(seeds, list):
            raise broken("the answer holds no picture")
        texts = texts[first if isinstance(first, int) else 0 :][
            : call.count
        ]  # a grid before, control's maps after them
        pictures = [await _picture(order, text, seed) for text, seed in zip(texts, seeds, strict=False)]
        version = info.get("sd_model_hash")
        return ProviderResult(tuple(pictures), call.attempt_id, version if isinstance(version, str) else "")


async def _picture(order: Shaped, text: object, seed: object) -> ProviderImage:
    """A picture of the answer; some forks write a data URL."""
    data = await bytes_of(text.partition(";base64,")[2] if isinstance(text, str) and text.startswith("data:") else text)
    return picture_of(await order.finished(data), seed)


async def _show(told: Body, seen: int, listener: Listener) -> int:
    """Passes on what the server tells of our task; the number of the last preview."""
    share, shown, number = told.get("progress"), told.get("live_preview"), told.get("id_live_preview")
    if isinstance(share, int | float):
        listener.progress(round(share * 100), 100)
    if isinstance(shown, str) and shown.startswith("data:") and isinstance(number, int) and number != seen:
        data = await bytes_of(shown.partition(";base64,")[2])
        listener.preview(data, media_type_of(data))
        return number
    return seen


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer of another status than 200 is; its text may repeat the prompt and stays out."""
    return ProviderError(
        kind_of_status(answer.status),
        f"the provider answered {answer.status}",
        retry_after=retry_after(answer.headers),
        status=answer.status,
    )
