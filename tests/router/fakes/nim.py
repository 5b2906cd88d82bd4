"""A strict Visual GenAI NIM: containers of one model each at `/v1/infer` and the hosted preview by path."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    described,
    flag,
    like,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

_EDGE = one_of(*range(768, 1345, 64))
_PLAIN: Mapping[str, Check] = {
    "prompt": text(10_000),
    "seed": whole(0, 2**32 - 1),
    "steps": whole(1, 100),
    "samples": one_of(1),
    "width": _EDGE,
    "height": _EDGE,
}
_TUNED: Mapping[str, Check] = {**_PLAIN, "cfg_scale": number(0, 9)}
MODELS: Mapping[str, Mapping[str, Check]] = {
    "flux.1-dev": {**_TUNED, "mode": one_of("base", "canny", "depth"), "image": a_picture, "preprocess_image": flag},
    "flux.1-schnell": {**_PLAIN, "steps": whole(1, 4)},
    "flux.1-kontext-dev": {
        "prompt": text(10_000),
        "image": a_picture,
        "seed": whole(0, 2**32 - 1),
        "steps": whole(20, 50),
        "cfg_scale": number(1, 9),
        "aspect_ratio": like(r"match_input_image|\d{1,2}:\d{1,2}"),
    },
}


def _detail(status: int, detail: Any, wait: str = "") -> web.Response:
    headers = {"NVCF-REQID": "req-bad", **({"Retry-After": wait} if wait else {})}
    return web.json_response({"detail": detail}, status=status, headers=headers)


def _artifacts(reason: str, data: str = "") -> web.Response:
    return web.json_response({"artifacts": [{"base64": data, "finishReason": reason, "seed": 1}]})


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "filtered": lambda: _artifacts("CONTENT_FILTERED", base64.b64encode(b"blurred").decode()),
    "unknown_reason": lambda: _artifacts("SOMETHING_NEW"),
    "error_reason": lambda: _artifacts("ERROR"),
    "unprocessable": lambda: _detail(422, [{"loc": ["body", "steps"], "msg": "too many", "type": "value_error"}]),
    "no_model": lambda: _detail(404, "Function not found"),
    "unauthorized": lambda: _detail(401, "Unauthorized"),
    "forbidden": lambda: _detail(403, "Authorization failed"),
    "credits": lambda: _detail(402, "Payment required"),
    "rate_limited": lambda: _detail(429, "Too Many Requests", wait="7"),
    "error500": lambda: _detail(500, "Internal Server Error"),
    "not_ready": lambda: _detail(503, "not ready"),
    "pending": lambda: web.Response(status=202),
    "gateway_timeout": lambda: web.Response(status=504),
    "bad_json": lambda: web.Response(text='{"artifacts": [', content_type="application/json"),
    "not_an_object": lambda: web.json_response([]),
    "no_artifacts": lambda: web.json_response({"artifacts": []}),
    "no_reason": lambda: web.json_response({"artifacts": [{"base64": "aGVsbG8="}]}),
    "bad_base64": lambda: _artifacts("SUCCESS", "***"),
    "not_an_image": lambda: _artifacts("SUCCESS", "aGVsbG8="),
}


class NimFake(VendorFake):
    """Containers want no key; the host does."""

    key = "nvapi-stub"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.container = "flux.1-dev"
        """The model that `/v1/infer` serves."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/infer", self._infer)
        app.router.add_get("/v1/health/ready", self._ready)
        app.router.add_post("/v1/genai/{publisher}/{model}", self._hosted)

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        return await self._draw(request, self.container, {})

    async def _hosted(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return FAILURES["unauthorized"]()
        if request.match_info["model"] not in MODELS:
            return FAILURES["no_model"]()
        return await self._draw(request, request.match_info["model"], {"NVCF-REQID": "req-1"})

    async def _draw(self, request: web.Request, model: str, headers: dict[str, str]) -> web.StreamResponse:
        if request.content_type != "application/json" or request.headers.get("Accept") != "application/json":
            return _detail(415, "application/json is wanted")
        fields = await self._seen(request)
        if wrong := wrong_fields(fields, MODELS[model], ("prompt",)):
            return _detail(422, [{"loc": ["body", name], "msg": "invalid"} for name in wrong])
        failure = await self.count(request, fields["prompt"], fields)
        if failure in FAILURES:
            return FAILURES[failure]()
        if failure == "reset_midway":
            return await broken_off(request, b'{"artifacts": [')
        seed = fields.get("seed", 41)
        drawn = {"base64": base64.b64encode(self.png()).decode(), "finishReason": "SUCCESS", "seed": seed}
        return web.json_response({"artifacts": [drawn]}, headers=headers)

    async def _seen(self, request: web.Request) -> Fields:
        fields: Fields = await request.json()
        if "image" in fields:
            _, _, data = str(fields["image"]).partition("data:image/png;base64,")
            fields["image"] = described(base64.b64decode(data, validate=True)) if data else ""
        return fields

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ready"})
