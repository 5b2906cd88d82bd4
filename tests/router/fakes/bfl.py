"""A strict Black Forest Labs: orders by model, polls, signed addresses, call backs that the test sends itself."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    FakeJob,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    described,
    flag,
    like,
    list_of,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

_COMMON: Mapping[str, Check] = {
    "prompt": text(32_000),
    "webhook_url": like(r"https://.+"),
    "webhook_secret": text(200),
}
_SEEDED: Mapping[str, Check] = {**_COMMON, "seed": whole(0, 2**32 - 1)}
_OLD: Mapping[str, Check] = {**_SEEDED, "output_format": one_of("jpeg", "png"), "prompt_upsampling": flag}
_RATIO = like(r"\d{1,2}:\d{1,2}")


def _edge(low: int, high: int, step: int) -> Check:
    return lambda value: whole(low, high)(value) and value % step == 0


def _inputs(most: int) -> dict[str, Check]:
    return {"input_image" + (f"_{place}" if place > 1 else ""): a_picture for place in range(1, most + 1)}


_FLUX_2: Mapping[str, Check] = {
    **_SEEDED,
    **_inputs(8),
    "width": _edge(64, 4096, 16),
    "height": _edge(64, 4096, 16),
    "output_format": one_of("jpeg", "png", "webp"),
}
_FILL: Mapping[str, Check] = {**_OLD, "image": a_picture, "steps": whole(15, 50), "guidance": number(1.5, 100)}
_1_1: Mapping[str, Check] = {**_OLD, "width": _edge(256, 1440, 32), "height": _edge(256, 1440, 32)}

MODELS: Mapping[str, Mapping[str, Check]] = {
    "flux-2-pro": _FLUX_2,
    "flux-2-max": _FLUX_2,
    "flux-2-flex": {**_FLUX_2, "guidance": number(1.5, 10), "steps": whole(1, 50), "prompt_upsampling": flag},
    "flux-2-klein-4b": {name: check for name, check in _FLUX_2.items() if name[-1:] not in "5678"},
    "flux-pro-1.1": _1_1,
    "flux-pro-1.1-ultra": {**_OLD, "aspect_ratio": _RATIO, "raw": flag},
    "flux-dev": {**_1_1, "steps": whole(1, 50), "guidance": number(1.5, 5)},
    "flux-kontext-pro": {**_OLD, **_inputs(4), "aspect_ratio": _RATIO},
    "flux-pro-1.0-fill": {**_FILL, "mask": a_picture},
    "flux-pro-1.0-expand": {**_FILL, **dict.fromkeys(("top", "bottom", "left", "right"), whole(0, 2048))},
    "flux-3-image": {
        **_COMMON,
        "images": list_of(a_picture, 10),
        "aspect_ratio": _RATIO,
        "resolution": one_of("768sq", "1k", "1.5k", "2k", "4k"),
        "grounding": flag,
    },
}
"""Fields by model. `safety_tolerance` is missing on purpose: the mesh must not set it."""


def _detail(status: int, detail: object, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"detail": detail}, status=status, headers=named)


def _invalid(*names: str) -> web.Response:
    return _detail(422, [{"loc": ["body", name], "msg": "invalid", "type": "value_error"} for name in names])


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "bad_request": lambda: _detail(400, "Bad request"),
    "unprocessable": lambda: _invalid("prompt"),
    "no_model": lambda: _detail(404, "Not Found"),
    "forbidden": lambda: _detail(403, "Not authenticated - Invalid Authentication"),
    "unauthorized": lambda: _detail(401, "Not authenticated"),
    "credits": lambda: _detail(402, "Insufficient credits"),
    "rate_limited": lambda: _detail(429, "Too many active tasks", retry_after="7"),
    "rate_limited_bare": lambda: _detail(429, "Too many active tasks"),
    "error500": lambda: _detail(500, "Internal Server Error"),
    "overloaded": lambda: _detail(503, "Service Unavailable"),
    "bad_gateway": lambda: web.Response(status=502, text="<html>bad gateway</html>"),
    "gateway_timeout": lambda: web.Response(status=504),
    "bad_json": lambda: web.Response(text='{"id": "job-', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "no_id": lambda: web.json_response({"polling_url": "https://api.bfl.ai/v1/get_result"}),
}

ENDINGS: Mapping[str, Fields] = {
    "moderated_request": {"status": "Request Moderated", "details": {"Moderation Reasons": ["Derivative Works"]}},
    "moderated_content": {"status": "Content Moderated", "details": {"Moderation Reasons": ["Violence"]}},
    "error": {"status": "Error"},
    "failed": {"status": "Failed"},
    "lost": {"status": "Task not found"},
    "no_result": {"status": "Ready"},
}
"""How jobs may end."""


class BflFake(VendorFake):
    """Credits cost 4.5 an order."""

    asynchronous = True

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.pictures: dict[str, bytes] = {}
        """The last order's pictures by field."""

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/v1/get_result", self._poll)
        app.router.add_get("/v1/credits", self._credits)
        app.router.add_post("/v1/{model}", self._order)

    async def _order(self, request: web.Request) -> web.StreamResponse:
        model = request.match_info["model"]
        if request.headers.get("x-key") != self.key:
            return FAILURES["forbidden"]()
        if model not in MODELS:
            return FAILURES["no_model"]()
        if request.content_type != "application/json":
            return _invalid("content-type")
        fields = self._seen(await request.json())
        if wrong := wrong_fields(fields, MODELS[model], ("prompt",)):
            return _invalid(*wrong)
        prompt = str(fields["prompt"])
        failure = await self.count(request, prompt, fields)
        if failure == "reset_midway":
            return await broken_off(request, b'{"id": "job-')
        return FAILURES[failure]() if failure else self._accepted(prompt, fields)

    def _seen(self, body: Fields) -> Fields:
        """The body with its pictures described; what is no picture stays and is refused."""
        self.pictures.clear()
        seen: Fields = {}
        for name, value in body.items():
            listed = [self._picture_in(name, one) for one in (value if isinstance(value, list) else [value])]
            seen[name] = listed if isinstance(value, list) else listed[0]
        return seen

    def _picture_in(self, name: str, value: object) -> object:
        if not name.startswith(("input_image", "image", "mask")) or not isinstance(value, str):
            return value
        try:
            self.pictures[name] = base64.b64decode(value, validate=True)
        except binascii.Error:
            return value
        return described(self.pictures[name])

    def _accepted(self, prompt: str, fields: Fields) -> web.Response:
        job = self.open_job(prompt, fields=fields)
        told = {"id": job.id, "cost": 4.5, "input_mp": 0.0, "output_mp": 0.13}
        if "webhook_url" in fields:
            return web.json_response({**told, "status": "Pending", "webhook_url": fields["webhook_url"]})
        return web.json_response({**told, "polling_url": f"{self.origin}/v1/get_result?id={job.id}"})

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("x-key") != self.key:
            return FAILURES["forbidden"]()
        job = self.jobs.get(request.query.get("id", ""))
        if job is None:
            return web.json_response({"id": request.query.get("id"), **ENDINGS["lost"]}, status=404)
        if bad := await self.polled(job):
            return bad
        if job.late == "bad_json":
            return web.Response(text='{"id": ', content_type="application/json")
        if job.late == "forbidden":
            return FAILURES["forbidden"]()
        if not job.done:
            state = "Pending" if job.polls == 1 else "Generating"
            return web.json_response({"id": job.id, "status": state, "progress": 0.5, "result": None})
        status = 503 if job.late == "failed" else 200
        return web.json_response({"id": job.id, "result": None, "details": None, **self._ending(job)}, status=status)

    def _ending(self, job: FakeJob) -> Fields:
        if job.late in ENDINGS:
            return ENDINGS[job.late]
        result = {"sample": self.url(job.prompt), "prompt": job.prompt, "seed": job.fields.get("seed", 41)}
        return {"status": "Ready", "progress": 1.0, "result": result}

    async def _credits(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("x-key") != self.key:
            return FAILURES["forbidden"]()
        return web.json_response({"credits": 12.5})

    def call_back(self, job_id: str) -> bytes:
        """What it would POST to the order's address."""
        return json.dumps({"id": job_id, "status": "SUCCESS", "timestamp": "2026-11-20T10:00:00Z"}).encode()
