"""A strict Stability AI: forms by service, JSON with base64, results to ask for. Bedrock takes the same fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    form_number,
    form_of,
    one_of,
    text,
    wrong_fields,
)

_PRESETS = one_of("3d-model", "anime", "cinematic", "photographic", "pixel-art")
_RATIOS = one_of("21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21")
_SEED = form_number(0, 4294967294)


def _share(low: float = 0, high: float = 1) -> Check:
    return form_number(low, high)


_FORMAT: Mapping[str, Check] = {"output_format": one_of("png", "jpeg", "webp")}
_DRAW: Mapping[str, Check] = {
    **_FORMAT,
    "prompt": text(10_000),
    "negative_prompt": text(10_000),
    "seed": _SEED,
    "style_preset": _PRESETS,
}
_IMAGE: Mapping[str, Check] = {"image": a_picture}
_SD3: Mapping[str, Check] = {
    **_DRAW,
    **_IMAGE,
    "model": one_of("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium", "sd3.5-flash"),
    "mode": one_of("text-to-image", "image-to-image"),
    "aspect_ratio": _RATIOS,
    "strength": _share(),
    "cfg_scale": form_number(1, 10),
}
_CONTROL: Mapping[str, Check] = {**_DRAW, **_IMAGE, "control_strength": _share()}
_MARGIN = form_number(0, 2000)

SERVICES: Mapping[str, tuple[Mapping[str, Check], tuple[str, ...]]] = {
    "generate/ultra": ({**_DRAW, **_IMAGE, "aspect_ratio": _RATIOS, "strength": _share()}, ("prompt",)),
    "generate/core": ({**_DRAW, "aspect_ratio": _RATIOS}, ("prompt",)),
    "generate/sd3": (_SD3, ("prompt", "model")),
    "edit/erase": (
        {**_FORMAT, **_IMAGE, "mask": a_picture, "seed": _SEED, "grow_mask": form_number(0, 20)},
        ("image", "mask"),
    ),
    "edit/inpaint": ({**_DRAW, **_IMAGE, "mask": a_picture, "grow_mask": form_number(0, 100)}, ("image", "prompt")),
    "edit/outpaint": (
        {
            **{name: check for name, check in _DRAW.items() if name != "negative_prompt"},
            **_IMAGE,
            **dict.fromkeys(("left", "right", "up", "down"), _MARGIN),
            "creativity": _share(),
        },
        ("image",),
    ),
    "edit/search-and-replace": (
        {**_DRAW, **_IMAGE, "search_prompt": text(10_000), "grow_mask": form_number(0, 20)},
        ("image", "prompt", "search_prompt"),
    ),
    "edit/search-and-recolor": (
        {**_DRAW, **_IMAGE, "select_prompt": text(10_000), "grow_mask": form_number(0, 20)},
        ("image", "prompt", "select_prompt"),
    ),
    "edit/remove-background": ({**_IMAGE, "output_format": one_of("png", "webp")}, ("image",)),
    "edit/replace-background-and-relight": (
        {
            **{name: check for name, check in _DRAW.items() if name not in ("prompt", "style_preset")},
            "subject_image": a_picture,
            "background_prompt": text(10_000),
            "light_source_direction": one_of("left", "right", "above", "below"),
            "light_source_strength": _share(),
            "preserve_original_subject": _share(),
            "original_background_depth": _share(),
            "keep_original_background": one_of("true", "false"),
        },
        ("subject_image", "background_prompt"),
    ),
    "upscale/fast": ({**_IMAGE, **_FORMAT}, ("image",)),
    "upscale/conservative": (
        {
            **{name: check for name, check in _DRAW.items() if name != "style_preset"},
            **_IMAGE,
            "creativity": _share(0.2, 0.5),
        },
        ("image", "prompt"),
    ),
    "upscale/creative": ({**_DRAW, **_IMAGE, "creativity": _share(0.1, 0.5)}, ("image", "prompt")),
    "control/sketch": (_CONTROL, ("image", "prompt")),
    "control/structure": (_CONTROL, ("image", "prompt")),
    "control/style": ({**_DRAW, **_IMAGE, "fidelity": _share(), "aspect_ratio": _RATIOS}, ("image", "prompt")),
    "control/style-transfer": (
        {
            **{name: check for name, check in _DRAW.items() if name != "style_preset"},
            "init_image": a_picture,
            "style_image": a_picture,
        },
        ("init_image", "style_image"),
    ),
}
"""Fields and those that must be there, by path."""
ASYNCHRONOUS = ("upscale/creative", "edit/replace-background-and-relight")


def _error(status: int, name: str, **headers: str) -> web.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    body = {"id": "e1a2", "name": name, "errors": [f"the fake says {name}"]}
    return web.json_response(body, status=status, headers={"x-request-id": "req-error", **named})


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "moderation": lambda: _error(403, "content_moderation"),
    "public_figure": lambda: _error(422, "public_figure"),
    "language": lambda: _error(422, "invalid_language"),
    "bad_request": lambda: _error(400, "bad_request"),
    "too_large": lambda: _error(413, "payload_too_large"),
    "no_service": lambda: _error(404, "not_found"),
    "unauthorized": lambda: _error(401, "unauthorized"),
    "forbidden": lambda: _error(403, "permission_denied"),
    "credits": lambda: _error(402, "payment_required"),
    "rate_limited": lambda: _error(429, "rate_limit_exceeded"),
    "rate_limited_told": lambda: _error(429, "rate_limit_exceeded", retry_after="7"),
    "error500": lambda: _error(500, "internal_error"),
    "overloaded": lambda: web.Response(status=503, text="upstream connect error"),
    "bad_gateway": lambda: web.Response(status=502, text="bad gateway"),
    "gateway_timeout": lambda: web.Response(status=504),
    "bad_json": lambda: web.Response(text='{"image": "', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "no_picture": lambda: web.json_response({"finish_reason": "SUCCESS", "seed": 1}),
    "bad_base64": lambda: web.json_response({"image": "***", "finish_reason": "SUCCESS", "seed": 1}),
    "not_an_image": lambda: web.json_response({"image": "aGVsbG8=", "finish_reason": "SUCCESS", "seed": 1}),
}


class StabilityFake(VendorFake):
    """`asynchronous` only as far as a prompt `stall` is concerned: its jobs are those of two services."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v2beta/stable-image/{family}/{name}", self._order)
        app.router.add_get("/v2beta/results/{id}", self._result)
        app.router.add_get("/v1/user/balance", self._balance)

    def _authorized(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.key}"

    async def _order(self, request: web.Request) -> web.StreamResponse:
        path = f"{request.match_info['family']}/{request.match_info['name']}"
        if not self._authorized(request):
            return FAILURES["unauthorized"]()
        if path not in SERVICES:
            return FAILURES["no_service"]()
        if request.headers.get("Accept") != "application/json":
            return _error(400, "bad_request")
        fields = await form_of(request)
        allowed, required = SERVICES[path]
        if wrong := wrong_fields(fields, allowed, required):
            return _error(400, f"bad_request:{','.join(wrong)}")
        prompt = str(fields.get("prompt") or fields.get("background_prompt") or "")
        attempt = request.headers.get("stability-client-id", "")
        self.asynchronous = path in ASYNCHRONOUS
        failure = await self.count(request, prompt, fields, attempt)
        if failure == "reset_midway":
            return await broken_off(request, b'{"image": "iVBO')
        if failure in FAILURES:
            return FAILURES[failure]()
        return self._accepted(prompt, fields) if self.asynchronous else self._drawn(fields, failure)

    def _drawn(self, fields: Fields, failure: str) -> web.Response:
        finish = "CONTENT_FILTERED" if failure == "filtered" else "SUCCESS"
        image = self._picture.base64(next(self._serial)).decode()
        told = {"image": image, "seed": int(fields.get("seed", 41)), "finish_reason": finish}
        return web.json_response(told, headers={"x-request-id": f"req-{next(self._serial)}"})

    def _accepted(self, prompt: str, fields: Fields) -> web.Response:
        job = self.open_job(prompt, fields=fields)
        return web.json_response({} if prompt == "fail:no_id" else {"id": job.id})

    async def _result(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if not self._authorized(request):
            return FAILURES["unauthorized"]()
        if request.headers.get("Accept") != "*/*":
            return _error(400, "bad_request")
        if job is None or job.late == "lost":
            return FAILURES["no_service"]()
        if bad := await self.polled(job):
            return bad
        if not job.done:
            return web.json_response({"id": job.id, "status": "in-progress"}, status=202)
        if job.late in FAILURES:
            return FAILURES[job.late]()
        finish = "CONTENT_FILTERED" if job.late == "filtered" else "SUCCESS"
        body = b"no picture" if job.late == "text" else self.png()
        headers = {"finish-reason": finish, "seed": str(job.fields.get("seed", 41)), "x-request-id": "req-result"}
        if job.prompt == "as json":
            image = self._picture.base64(next(self._serial)).decode()
            return web.json_response({"result": image, "finish_reason": "SUCCESS", "seed": 41})
        return web.Response(body=body, content_type="image/png", headers=headers)

    async def _balance(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"credits": 12.5}) if self._authorized(request) else FAILURES["unauthorized"]()
