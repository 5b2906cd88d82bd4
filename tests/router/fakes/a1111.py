"""A strict web UI of AUTOMATIC1111 with `--api --api-auth`: one checkpoint, one upscaler, ControlNet with one model.

Failures are the keys of `FAILURES`. The prompt `steps` waits until its progress was asked for, twice where
there is such a route.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import BasicAuth, web

from tests.router.fakes.vendor import (
    Check,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    described,
    flag,
    list_of,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

CHECKPOINT = "painter"
CHECKPOINT_HASH = "6ce0161689"
CONTROL_MODEL = "control_canny [d14c016b]"
UPSCALER = "R-ESRGAN 4x+"


def _edge(value: Any) -> bool:
    return whole(64, 2048)(value) and value % 8 == 0


_UNIT: Mapping[str, Check] = {
    "enabled": flag,
    "module": one_of("none", "canny"),
    "model": one_of(CONTROL_MODEL),
    "weight": number(0, 2),
    "image": a_picture,
}


def _units(value: Any) -> bool:
    try:
        return all(not wrong_fields(unit, _UNIT, ("model", "image")) for unit in value["controlnet"]["args"])
    except (KeyError, TypeError):
        return False


_DRAW: Mapping[str, Check] = {
    "prompt": text(32_000),
    "negative_prompt": text(32_000),
    "seed": whole(-1, 2**32 - 1),
    "steps": whole(1, 150),
    "cfg_scale": number(1, 30),
    "sampler_name": one_of("DDIM", "DPM++ 2M", "Euler a"),
    "scheduler": one_of("karras"),
    "width": _edge,
    "height": _edge,
    "batch_size": whole(1, 8),
    "tiling": flag,
    "restore_faces": flag,
    "override_settings": lambda value: not wrong_fields(value, {"sd_model_checkpoint": text(200)}),
    "force_task_id": text(100),
    "alwayson_scripts": _units,
}
_FROM_IMAGE: Mapping[str, Check] = {
    **_DRAW,
    "init_images": list_of(a_picture, 1),
    "mask": a_picture,
    "resize_mode": whole(0, 3),
    "denoising_strength": number(0, 1),
    "inpainting_mask_invert": whole(0, 1),
    "inpaint_full_res": flag,
    "inpainting_fill": whole(0, 3),
    "mask_blur": whole(0, 64),
}
_EXTRAS: Mapping[str, Check] = {
    "resize_mode": whole(0, 1),
    "upscaling_resize": number(1, 8),
    "upscaler_1": one_of(UPSCALER),
    "image": a_picture,
}
PATHS: Mapping[str, tuple[Mapping[str, Check], tuple[str, ...]]] = {
    "txt2img": (_DRAW, ("prompt",)),
    "img2img": (_FROM_IMAGE, ("prompt", "init_images", "width", "height")),
    "extra-single-image": (_EXTRAS, ("image", "upscaler_1")),
}


def _error(status: int, name: str, said: str = "") -> web.Response:
    return web.json_response({"error": name, "detail": said, "body": "", "errors": said}, status=status)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "no_sampler": lambda: _error(404, "HTTPException", "Sampler not found"),
    "unprocessable": lambda: web.json_response({"detail": [{"loc": ["body", "steps"], "msg": "wrong"}]}, status=422),
    "unauthorized": lambda: web.json_response({"detail": "Incorrect username or password"}, status=401),
    "out_of_memory": lambda: _error(500, "OutOfMemoryError", "CUDA out of memory"),
    "proxy": lambda: web.Response(status=502, text="bad gateway"),
    "bad_json": lambda: web.Response(text='{"images": ["', content_type="application/json"),
    "not_an_object": lambda: web.json_response([]),
    "no_info": lambda: web.json_response({"images": ["aGVsbG8="], "parameters": {}}),
    "no_images": lambda: web.json_response({"images": [], "info": json.dumps({"all_seeds": [1]})}),
    "not_an_image": lambda: web.json_response({"images": ["aGVsbG8="], "info": json.dumps({"all_seeds": [1]})}),
    "bad_base64": lambda: web.json_response({"images": ["***"], "info": json.dumps({"all_seeds": [1]})}),
}


class A1111Fake(VendorFake):
    """The server."""

    key = "mesh:secret"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.pictures: dict[str, bytes] = {}
        """The last order's pictures by field."""
        self.asked_progress: list[Fields] = []
        self.ui = True
        """Whether it has its own routes besides the API."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/sdapi/v1/{path:txt2img|img2img|extra-single-image}", self._draw)
        app.router.add_get("/sdapi/v1/sd-models", self._models)
        app.router.add_post("/internal/progress", self._progress)

    def _knows(self, request: web.Request) -> bool:
        login, _, password = self.key.partition(":")
        return request.headers.get("Authorization") == BasicAuth(login, password).encode()

    async def _draw(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return FAILURES["unauthorized"]()
        if request.content_type != "application/json":
            return FAILURES["unprocessable"]()
        self.pictures.clear()
        fields = self._seen("", await request.json())
        path = request.match_info["path"]
        if wrong := wrong_fields(fields, *PATHS[path]):
            return _error(422, "ValidationError", f"unknown or invalid: {wrong}")
        failure = await self.count(request, fields.get("prompt", ""), fields, fields.get("force_task_id", ""))
        if failure in FAILURES:
            return FAILURES[failure]()
        if failure == "reset_midway":
            return await broken_off(request, b'{"images": ["')
        if path == "extra-single-image":
            return web.json_response({"html_info": "", "image": base64.b64encode(self.png()).decode()})
        if fields["prompt"] == "steps":
            async with self.changed:
                await self.changed.wait_for(lambda: len(self.asked_progress) > int(self.ui))
        return web.json_response(self._drawn(fields))

    def _drawn(self, fields: Fields) -> Fields:
        count, seed = fields.get("batch_size", 1), fields.get("seed", 41)
        images = [base64.b64encode(self.png()).decode() for _ in range(count)]
        prompt = fields["prompt"]
        first = 1 if prompt == "fail:grid" else 0
        if prompt == "fail:data_url":
            images = [f"data:image/png;base64,{image}" for image in images]
        info = {
            "seed": seed,
            "all_seeds": [seed + place for place in range(count)],
            "index_of_first_image": first,
            "sd_model_name": "another" if prompt == "fail:other_checkpoint" else CHECKPOINT,
            "sd_model_hash": "0000000000" if prompt == "fail:other_checkpoint" else CHECKPOINT_HASH,
        }
        extra = [base64.b64encode(self.png()).decode()] if "alwayson_scripts" in fields else []
        return {"images": ["Z3JpZA=="] * first + images + extra, "parameters": {}, "info": json.dumps(info)}

    def _seen(self, name: str, value: Any) -> Any:
        """The body with its pictures described."""
        if isinstance(value, dict):
            return {key: self._seen(key, each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._seen(name, each) for each in value]
        if name not in ("image", "init_images", "mask"):
            return value
        self.pictures[name] = base64.b64decode(value, validate=True)
        return described(self.pictures[name])

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        async with self.changed:
            self.asked_progress.append(body)
            self.changed.notify_all()
        if not self.ui:
            return web.json_response({"detail": "Not Found"}, status=404)
        active = body["id_task"] in self.attempts and self.orders[-1].fields["prompt"] == "steps"
        if not active:
            return web.json_response({"active": False, "queued": True, "paused": False, "completed": False})
        shown = f"data:image/png;base64,{base64.b64encode(self.png()).decode()}"
        told = {"active": True, "queued": False, "paused": False, "completed": False, "progress": 0.25, "eta": 3.0}
        return web.json_response({**told, "live_preview": shown, "id_live_preview": 1})

    async def _models(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return FAILURES["unauthorized"]()
        return web.json_response([{"title": f"{CHECKPOINT}.safetensors [{CHECKPOINT_HASH}]", "hash": CHECKPOINT_HASH}])
