"""A strict Ideogram: both surfaces, orders with an id, kept back pictures, call backs signed with a key of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping

from aiohttp import BodyPartReader, web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.router.providers.webhooks import CallBack
from tests.router.fakes.vendor import (
    Check,
    FakeJob,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    described,
    form_number,
    like,
    list_of,
    one_of,
    text,
    wrong_fields,
)

_SIZE = like(r"\d{3,4}x\d{3,4}")
_COMMON: Mapping[str, Check] = {
    "prompt": text(10_000),
    "seed": form_number(0, 2**31 - 1),
    "num_images": form_number(1, 8),
    "magic_prompt": one_of("auto", "on", "off"),
    "async": one_of("true"),
    "webhook_url": like(r"https://.+"),
}
_PLAIN = {name: check for name, check in _COMMON.items() if name != "magic_prompt"}
_PACED: Mapping[str, Check] = {**_COMMON, "rendering_speed": one_of("flash", "turbo", "default", "quality")}
_RESOLVED: Mapping[str, Check] = {**_PACED, "resolution": _SIZE}
_3: Mapping[str, Check] = {
    **_RESOLVED,
    "negative_prompt": text(10_000),
    "style_type": one_of("auto", "general", "realistic", "design", "fiction"),
}
_REMIX: Mapping[str, Check] = {"image": a_picture, "image_weight": form_number(1, 100)}
_MASKED: Mapping[str, Check] = {"image": a_picture, "mask": a_picture}


def _references(value: object) -> bool:
    return a_picture(value) or list_of(a_picture, 4)(value)


_UPPER = one_of("FLASH", "TURBO", "DEFAULT", "BALANCED", "QUALITY")
_V1: Mapping[str, Check] = {
    **{name: check for name, check in _3.items() if name not in ("async", "webhook_url")},
    "rendering_speed": _UPPER,
    "magic_prompt": one_of("AUTO", "ON", "OFF"),
    "style_type": one_of("AUTO", "GENERAL", "REALISTIC", "DESIGN", "FICTION"),
}
_V1_EDIT = {name: check for name, check in _V1.items() if name not in ("resolution", "negative_prompt")}
PATHS: Mapping[str, tuple[Mapping[str, Check], tuple[str, ...]]] = {
    "/v2/image/generate/ideogram-4-5": (
        {**_COMMON, "size": _SIZE, "quality": one_of("low", "medium", "high")},
        ("prompt", "async"),
    ),
    "/v2/image/precise-edit/ideogram-4-5": (
        {**_PLAIN, **_MASKED, "reference_images": _references, "quality": one_of("very_low", "low", "medium", "high")},
        ("prompt", "image", "async"),
    ),
    "/v2/image/generate/ideogram-4": (_RESOLVED, ("prompt", "async")),
    "/v2/image/remix/ideogram-4": (
        {**{name: check for name, check in _RESOLVED.items() if name != "seed"}, **_REMIX},
        ("prompt", "image", "async"),
    ),
    "/v2/image/generate/ideogram-4-transparent": (_RESOLVED, ("prompt", "async")),
    "/v2/image/generate/ideogram-3": (_3, ("prompt", "async")),
    "/v2/image/remix/ideogram-3": ({**_3, **_REMIX}, ("prompt", "image", "async")),
    "/v2/image/inpaint/ideogram-3": ({**_PACED, **_MASKED}, ("prompt", "image", "mask", "async")),
    "/v2/image/generate/ideogram-3-transparent": (_3, ("prompt", "async")),
    "/v2/image/remove-background/ideogram-1": (
        {"image": a_picture, "async": one_of("true"), "webhook_url": like(r"https://.+")},
        ("image", "async"),
    ),
    "/v2/image/upscale/topaz-standard-2": (
        {
            "image": a_picture,
            "upscale_factor": one_of("x2", "x4", "x8"),
            "async": one_of("true"),
            "webhook_url": like(r"https://.+"),
        },
        ("image", "async"),
    ),
    "/v1/ideogram-v3/generate": (_V1, ("prompt",)),
    "/v1/ideogram-v3/remix": ({**_V1, **_REMIX}, ("prompt", "image")),
    "/v1/ideogram-v3/edit": ({**_V1_EDIT, **_MASKED}, ("prompt", "image", "mask")),
}
"""Fields and those that must be there, by path. Numbers are checked as text, whichever way they came."""


def _error(status: int, error: str, reason: str = "", **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": error, **({"reject_reason": reason} if reason else {})}
    return web.json_response(body, status=status, headers=named)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "unsafe_prompt": lambda: _error(422, "Prompt provided failed safety check"),
    "unsafe_detail": lambda: web.json_response({"detail": "Image provided failed safety check"}, status=422),
    "bad_request": lambda: _error(400, "Invalid input provided"),
    "no_model": lambda: _error(404, "Not found"),
    "unauthorized": lambda: _error(401, "Not authorized"),
    "forbidden": lambda: _error(403, "Forbidden"),
    "funds": lambda: _error(402, "No credits", "insufficient_funds"),
    "daily_limit": lambda: _error(429, "Too many", "daily_limit"),
    "inflight": lambda: web.json_response(
        {"error": "Too many", "reject_reason": "inflight_limit", "max_inflight_requests": 10}, status=429
    ),
    "rate_limited": lambda: _error(429, "Too many requests", retry_after="7"),
    "error500": lambda: _error(500, "Internal error"),
    "overloaded": lambda: _error(503, "Unavailable"),
    "bad_gateway": lambda: web.Response(status=502),
    "gateway_timeout": lambda: web.Response(status=504),
    "bad_json": lambda: web.Response(text='{"generation_id": ', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "empty": lambda: web.json_response({}),
}


class IdeogramFake(VendorFake):
    """Its pictures are at addresses without key; `unsafe` and `some_unsafe` keep all or the first of them back."""

    asynchronous = True

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.signing = Ed25519PrivateKey.generate()
        self.key_reads = 0
        self.pictures: dict[str, bytes] = {}
        """The last order's pictures by field."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v2/image/{verb}/{model}", self._order)
        app.router.add_post("/v1/{model}/{verb}", self._order)
        app.router.add_get("/v2/generations/{id}", self._poll)
        app.router.add_get("/v2/account/usage", self._usage)
        app.router.add_get("/v1/.well-known/jwks.json", self._keys)

    async def _order(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Api-Key") != self.key:
            return FAILURES["unauthorized"]()
        if request.path not in PATHS:
            return FAILURES["no_model"]()
        fields = await self._read(request)
        allowed, required = PATHS[request.path]
        if wrong := wrong_fields(fields, allowed, required):
            return _error(400, f"Invalid input provided: {wrong}")
        prompt = str(fields.get("prompt", ""))
        self.asynchronous = request.path.startswith("/v2/")
        failure = await self.count(request, prompt, fields)
        if failure == "reset_midway":
            return await broken_off(request, b'{"generation_id": ')
        if failure in FAILURES:
            return FAILURES[failure]()
        count = int(fields.get("num_images", "1"))
        if self.asynchronous:
            return web.json_response({"generation_id": self.open_job(prompt, count, fields).id})
        body = {"created": "2026-11-20T00:00:00Z", "data": self._data(prompt, count, fields, failure)}
        return web.json_response(body, headers={"x-request-id": f"req-{next(self._serial)}"})

    async def _read(self, request: web.Request) -> Fields:
        """JSON or a form; numbers as text, pictures described."""
        self.pictures.clear()
        if request.content_type == "application/json":
            body = await request.json()
            return {name: json.dumps(value) if not isinstance(value, str) else value for name, value in body.items()}
        fields: Fields = {}
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            data, name = bytes(await part.read()), str(part.name)
            if part.filename:
                self.pictures[name] = data
            value = described(data) if part.filename else data.decode()
            fields[name] = [fields[name], value] if name in fields else value
        return fields

    def _data(self, prompt: str, count: int, fields: Fields, failure: str) -> list[Fields]:
        data = []
        for place in range(count):
            kept = failure == "unsafe" or (failure == "some_unsafe" and not place)
            address = "" if kept else self.url(prompt)
            seed = int(fields.get("seed", "41")) + place
            data.append({"url": address, "prompt": f"{prompt}, sharp", "seed": seed, "is_image_safe": not kept})
        return data

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Api-Key") != self.key:
            return FAILURES["unauthorized"]()
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.late == "lost":
            return FAILURES["no_model"]()
        if bad := await self.polled(job):
            return bad
        if job.late == "bad_json":
            return FAILURES["bad_json"]()
        if not job.done:
            return web.json_response({"generation_id": job.id, "status": "pending"})
        return web.json_response({"generation_id": job.id, **self._ending(job)})

    def _ending(self, job: FakeJob) -> Fields:
        if job.late in ("content_policy_violation", "internal_error"):
            return {"status": "failed", "failure_reason": job.late}
        if job.late == "empty":
            return {"status": "completed", "data": []}
        data = self._data(job.prompt, job.count, job.fields, job.late)
        return {"status": "completed", "data": data, "usage_cost_usd_micros": 60_000 * job.count}

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        return FAILURES["unauthorized"]() if request.headers.get("Api-Key") != self.key else web.json_response({})

    async def _keys(self, _request: web.Request) -> web.StreamResponse:
        self.key_reads += 1
        public = base64.urlsafe_b64encode(self.signing.public_key().public_bytes_raw()).decode().rstrip("=")
        return web.json_response({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": public}]})

    def call_back(self, job_id: str, named: str = "") -> CallBack:
        """What it would send about an order; `named`: the order in the body, if another."""
        body = json.dumps({"generation_id": named or job_id, "status": "completed"}).encode()
        timestamp = str(int(time.time()))
        message = "\n".join((job_id, "user-9", timestamp, hashlib.sha256(body).hexdigest())).encode()
        told = {
            "generation-id": job_id,
            "user-id": "user-9",
            "timestamp": timestamp,
            "key-id": "k1",
            "signature": self.signing.sign(message).hex(),
        }
        return CallBack({f"x-ideogram-webhook-{name}": value for name, value in told.items()}, body)
