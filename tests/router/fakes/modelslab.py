"""ModelsLab on loopback: the key in the body, errors with 200, numbers as texts, an address for every uploaded picture.

Failures of the POST are the keys of `FAILURES`; `late:` knows the keys of `ENDINGS`, `nsfw`, `black` and
`half_black`; `lost` is an order that is not known when it is fetched; `at_once` is drawn in the same call.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import pyvips
from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    FakeJob,
    VendorFake,
    broken_off,
    described,
    like,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

_YES_NO = one_of("yes", "no")


def _digits(low: int, high: int) -> Check:
    return lambda value: isinstance(value, str) and value.isdigit() and low <= int(value) <= high


_PICTURE = like(r"(png|jpeg|webp) \d+x\d+")
_DRAWN: dict[str, Check] = {
    "model_id": text(200),
    "prompt": text(32_000),
    "negative_prompt": text(32_000),
    "width": lambda value: _digits(64, 1024)(value) and int(value) % 8 == 0,
    "height": lambda value: _digits(64, 1024)(value) and int(value) % 8 == 0,
    "samples": _digits(1, 4),
    "num_inference_steps": _digits(1, 50),
    "guidance_scale": number(1, 20),
    "seed": whole(0, 2**32 - 1),
    "scheduler": like(r"\w+Scheduler"),
    "temp": _YES_NO,
    "track_id": text(100),
    "safety_checker": _YES_NO,
    "safety_checker_type": one_of("blur", "sensitive_content_text", "pixelate", "black"),
    "enhance_prompt": _YES_NO,
    "clip_skip": whole(1, 8),
    "webhook": like(r"https://\S+"),
}
_KINDS = one_of("canny", "depth", "openpose", "scribble")
_FROM_IMAGE: dict[str, Check] = {**_DRAWN, "init_image": _PICTURE, "strength": number(0, 1)}
_WEBHOOK = {"webhook": like(r"https://\S+")}
_UPSCALED: dict[str, Check] = {
    **_WEBHOOK,
    "model_id": like(r"RealESRGAN_\w+|realesr-general-x4v3|ultra_resolution"),
    "init_image": _PICTURE,
    "scale": whole(1, 4),
}

SCHEMAS: Mapping[str, tuple[Mapping[str, Check], tuple[str, ...]]] = {
    "images/text2img": (_DRAWN, ("model_id", "prompt")),
    "images/img2img": (_FROM_IMAGE, ("model_id", "init_image")),
    "images/inpaint": ({**_FROM_IMAGE, "mask_image": _PICTURE}, ("model_id", "init_image", "mask_image")),
    "images/controlnet": (
        {
            **_DRAWN,
            "controlnet_model": _KINDS,
            "controlnet_type": _KINDS,
            "control_image": _PICTURE,
            "controlnet_conditioning_scale": number(0.1, 5),
        },
        ("controlnet_model",),
    ),
    "image_editing/super_resolution": (_UPSCALED, ("init_image",)),
    "image_editing/removebg_mask": ({**_WEBHOOK, "image": _PICTURE}, ("image",)),
}
"""Fields by path, from the vendor's OpenAPI descriptions."""


def _said(message: object, status: int = 200, state: str = "error", name: str = "message", **more: Any) -> web.Response:
    return web.json_response({"status": state, name: message, **more}, status=status)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "nsfw": lambda: _said("NSFW content detected in the prompt"),
    "banned": lambda: _said("Your prompt has banned words", 400, name="messege"),
    "required": lambda: _said("prompt is required", 400),
    "required_200": lambda: _said({"prompt": ["The prompt field is required."]}),
    "no_model": lambda: _said("Model not found: x", 404),
    "unauthorized": lambda: _said("Invalid API key", 401),
    "unauthorized_200": lambda: _said("Invalid API key", name="messege"),
    "credits": lambda: _said("Insufficient credits. Please add more credits to continue.", 402),
    "premium": lambda: _said("This feature requires a premium subscription", 403),
    "credits_200": lambda: _said("You have run out of credits"),
    "rate_limited": lambda: _said("Rate limit exceeded. Maximum 5 queued requests allowed.", 429, retry_after=30),
    "rate_limited_200": lambda: _said("Rate limit exceeded", retry_after="30"),
    "error500": lambda: _said("Internal server error. Please try again.", 500),
    "overloaded": lambda: _said("Service temporarily unavailable. Please try again later.", 503),
    "try_again": lambda: _said("Try Again", state="failed"),
    "bad_gateway": lambda: _said("Try again", 502),
    "gateway_timeout": lambda: web.Response(status=504, text="timeout"),
    "bad_json": lambda: web.Response(text='{"status": "succ', content_type="application/json"),
    "no_id": lambda: web.json_response({"status": "processing", "eta": 3}),
    "nothing": lambda: web.json_response({}),
}
ENDINGS: Mapping[str, Callable[[], web.Response]] = {
    "flagged": lambda: _said("Processing failed: NSFW content", state="failed"),
    "crashed": lambda: _said("Processing failed: CUDA error", state="failed"),
    "invalid": lambda: _said("Unable to fetch image from provided URL"),
    "gone": lambda: _said("Request not found"),
    "empty": lambda: web.json_response({"status": "success", "id": 1}),
}


class ModelsLabFake(VendorFake):
    """The vendor."""

    key = "modelslab-stub"
    asynchronous = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.uploads: dict[str, bytes] = {}
        self.failing_upload: tuple[int, str] | None = None

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/api/wallet_balance", self._balance)
        app.router.add_post("/api/v6/image_editing/base64_to_url", self._upload)
        app.router.add_post("/api/v6/{family:images|image_editing}/fetch/{id}", self._fetch)
        app.router.add_post("/api/v6/{path:.+}", self._order)

    async def _body(self, request: web.Request) -> dict[str, Any] | None:
        """What was sent besides the key; None when that is wrong or elsewhere."""
        body = await request.json()
        known = request.content_type == "application/json" and body.pop("key", None) == self.key
        return body if known and "Authorization" not in request.headers and not request.query else None

    async def _order(self, request: web.Request) -> web.StreamResponse:
        body, path = await self._body(request), request.match_info["path"]
        if body is None:
            return FAILURES["unauthorized"]()
        if path not in SCHEMAS:
            return _said("not found", 404)
        fields = {name: self._read(value) for name, value in body.items()}
        if wrong := wrong_fields(fields, *SCHEMAS[path]):
            return _said(f"{wrong} must be something else", 400)
        prompt = fields.get("prompt", "")
        failure = await self.count(request, prompt, fields, fields.get("track_id", ""))
        if failure in FAILURES:
            return FAILURES[failure]()
        job = self.open_job(
            prompt, int(fields.get("samples", "1")), {"family": path.partition("/")[0]}, str(len(self.jobs) + 1001)
        )
        job.call_back = fields.get("webhook", "")
        if failure == "reset_midway":
            return await broken_off(request, b'{"status": "proc')
        if prompt == "at_once":
            return web.json_response(self.told(job))
        return web.json_response(
            {"status": "processing", "id": int(job.id), "eta": 1, "output": [], "fetch_result": "x"}
        )

    def _read(self, value: Any) -> Any:
        """Pictures as what they are; an address must be of our uploads."""
        known = isinstance(value, str) and value.startswith(f"{self.origin}/_uploads/")
        return described(self.uploads[value]) if known else value

    async def _upload(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if body is None:
            return FAILURES["unauthorized"]()
        if self.failing_upload is not None:
            return web.Response(status=self.failing_upload[0], text=self.failing_upload[1])
        if set(body) != {"init_image"} or not body["init_image"].startswith("data:image/"):
            return _said("init_image is required", 400)
        url = f"{self.origin}/_uploads/{len(self.uploads)}.png"
        self.uploads[url] = base64.b64decode(body["init_image"].partition(";base64,")[2], validate=True)
        return web.json_response({"status": "success", "id": 1, "output": [url]})

    async def _fetch(self, request: web.Request) -> web.Response:
        if await self._body(request) is None:
            return FAILURES["unauthorized"]()
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.prompt == "lost" or job.fields["family"] != request.match_info["family"]:
            return _said("Request not found", 404)
        if (bad := await self.polled(job)) is not None:
            return bad
        if not job.done:
            return web.json_response({"status": "processing", "id": int(job.id), "output": []})
        return ENDINGS[job.late]() if job.late in ENDINGS else web.json_response(self.told(job))

    async def _balance(self, request: web.Request) -> web.Response:
        if await self._body(request) is None:
            return FAILURES["unauthorized"]()
        return web.json_response({"status": "success", "data": {"balance": 43.6, "currency": "USD"}})

    def told(self, job: FakeJob) -> dict[str, Any]:
        """A drawn order."""
        urls = [self.url(job.prompt) for _ in range(job.count)]
        if job.late in ("black", "half_black"):
            black = bytes(pyvips.Image.black(16, 16, bands=3).write_to_buffer(".png"))
            hit = urls if job.late == "black" else urls[:1]
            self._files.update({url.rpartition("/")[2]: black for url in hit})
        flagged = {"nsfw_content_detected": job.late == "nsfw"}
        meta = {"seed": "42", "model_id": "x"}
        return {"status": "success", "id": int(job.id), "generationTime": 1.2, "output": urls, "meta": meta, **flagged}
