"""Hugging Face's router and an endpoint of one's own on loopback, strict about the two tasks' fields.

Failures are the keys of `FAILURES`. Models of the router whose id begins with `acme/` are known.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    VendorFake,
    a_picture,
    broken_off,
    described,
    number,
    text,
    whole,
    wrong_fields,
)

_TUNED: dict[str, Check] = {
    "negative_prompt": text(32_000),
    "guidance_scale": number(0, 100),
    "num_inference_steps": whole(1, 500),
}
_EDGE = whole(64, 2048)
TEXT_TO_IMAGE: Mapping[str, Check] = {
    **_TUNED,
    "width": _EDGE,
    "height": _EDGE,
    "scheduler": text(60),
    "seed": whole(0, 2**32 - 1),
}
IMAGE_TO_IMAGE: Mapping[str, Check] = {
    **_TUNED,
    "prompt": text(32_000),
    "target_size": lambda value: not wrong_fields(value, {"width": _EDGE, "height": _EDGE}, ("width", "height")),
}


def _error(status: int, said: str, wait: str = "", **body: Any) -> web.Response:
    headers = {"Retry-After": wait} if wait else {}
    return web.json_response({"error": said, **body}, status=status, headers=headers)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "bad_request": lambda: _error(400, "Model not supported by provider hf-inference"),
    "no_model": lambda: _error(404, "Not Found"),
    "unprocessable": lambda: _error(422, "unknown parameter"),
    "unauthorized": lambda: _error(401, "Invalid username or password."),
    "forbidden": lambda: _error(403, "This authentication method does not have sufficient permissions"),
    "payment": lambda: _error(402, "You have exceeded your monthly included credits for Inference Providers."),
    "rate_limited": lambda: _error(429, "Too many requests", wait="7"),
    "loading": lambda: _error(503, "Model is currently loading", estimated_time=20.0),
    "asleep": lambda: web.Response(status=503, text="503 Service Unavailable"),
    "out_of_memory": lambda: _error(500, "CUDA out of memory", warnings=["There was an inference error"]),
    "bad_gateway": lambda: web.Response(status=502, text="bad gateway"),
    "gateway_timeout": lambda: _error(504, "Request timed out"),
    "json": lambda: web.json_response({"images": []}),
    "not_an_image": lambda: web.Response(body=b"hello", content_type="image/png"),
    "empty": lambda: web.Response(body=b"", content_type="image/png"),
}


class HuggingFaceFake(VendorFake):
    """The vendor."""

    key = "hf_stub"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.sources: list[bytes] = []
        """Pictures of the bodies in order, as bytes."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/hf-inference/models/{model:.+}", self._router)
        app.router.add_post("/endpoint", self._endpoint)
        app.router.add_get("/api/whoami-v2", self._whoami)

    async def _router(self, request: web.Request) -> web.StreamResponse:
        if not request.match_info["model"].startswith("acme/"):
            return FAILURES["no_model"]()
        return await self._run(request, IMAGE_TO_IMAGE)

    async def _endpoint(self, request: web.Request) -> web.StreamResponse:
        """Its handler takes a mask besides."""
        return await self._run(request, {**IMAGE_TO_IMAGE, "mask_image": a_picture})

    async def _run(self, request: web.Request, with_image: Mapping[str, Check]) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return FAILURES["unauthorized"]()
        if request.content_type != "application/json" or request.headers.get("Accept") != "image/png":
            return _error(415, "unsupported")
        body = await request.json()
        parameters = {name: self._read(name, value) for name, value in body.get("parameters", {}).items()}
        inputs = body["inputs"]
        if "prompt" in parameters:
            inputs = self._read("image", inputs)
        wrong = wrong_fields(parameters, with_image if "prompt" in parameters else TEXT_TO_IMAGE)
        if wrong or set(body) - {"inputs", "parameters"}:
            return _error(422, f"unknown or invalid: {wrong}")
        prompt = parameters.get("prompt", inputs)
        failure = await self.count(request, prompt, {"inputs": inputs, **parameters})
        if failure in FAILURES:
            return FAILURES[failure]()
        if failure == "reset_midway":
            return await broken_off(request, b"\x89PNG")
        headers = {"x-request-id": "req-1", "x-compute-time": "1.2345"}
        if failure == "traced":
            headers = {"X-Amzn-Trace-Id": "Root=1"}
        return web.Response(body=self.png(), content_type="image/png", headers=headers)

    def _read(self, name: str, value: Any) -> Any:
        if "image" not in name:
            return value
        data = base64.b64decode(value, validate=True)
        self.sources.append(data)
        return described(data)

    async def _whoami(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return FAILURES["unauthorized"]()
        return web.json_response({"type": "user", "name": "acme"})
