"""A strict Adobe Firefly: IMS tokens, the storage, every asynchronous service in its own spelling, signed results."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    FakeJob,
    Fields,
    VendorFake,
    broken_off,
    described,
    like,
    list_of,
    one_of,
    text,
    whole,
    wrong_fields,
)

CLIENT_SECRET = "client-secret-stub"
SCOPE = "openid,AdobeID,session,additional_info,read_organizations,firefly_api,ff_apis"


def fields_of(allowed: Mapping[str, Check], *required: str) -> Check:
    """An object with these fields."""
    return lambda value: not wrong_fields(value, allowed, required)


_SOURCE = fields_of({"source": fields_of({"uploadId": like(r"(png|jpeg|webp) \d+x\d+")}, "uploadId")}, "source")
_SEEDS = list_of(whole(0, 2**31 - 1), 4)
_SIZES = {(2048, 2048), (1024, 1024), (2304, 1792), (1792, 2304), (2688, 1536), (1344, 768), (1152, 896), (896, 1152)}


def _size(value: Any) -> bool:
    return isinstance(value, dict) and {*value} == {"width", "height"} and (value["width"], value["height"]) in _SIZES


_VARIED: Mapping[str, Check] = {"numVariations": whole(1, 4), "seeds": _SEEDS, "size": _size}
_PROMPTED: Mapping[str, Check] = {
    **_VARIED,
    "prompt": text(1024),
    "promptBiasingLocaleCode": like(r"[a-z]{2}-[A-Z]{2}"),
}
_GENERATE: Mapping[str, Check] = {
    **_PROMPTED,
    "negativePrompt": text(1024),
    "contentClass": one_of("photo", "art"),
    "visualIntensity": whole(2, 10),
    "customModelId": text(200),
    "structure": fields_of({"imageReference": _SOURCE, "strength": whole(0, 100)}, "imageReference"),
    "style": fields_of({"imageReference": _SOURCE, "strength": whole(1, 100)}, "imageReference"),
}
_FILL = {**_PROMPTED, "negativePrompt": text(1024), "image": _SOURCE, "mask": _SOURCE}
_INSET = fields_of(dict.fromkeys(("left", "top", "right", "bottom"), whole(0, 3999)))
_EXPAND = {
    "prompt": text(1024),
    "numVariations": whole(1, 4),
    "seeds": _SEEDS,
    "size": fields_of({"width": whole(1, 3999), "height": whole(1, 3999)}, "width", "height"),
    "image": _SOURCE,
    "placement": fields_of({"inset": _INSET}),
}
_UPSCALE = {"image": _SOURCE, "seeds": _SEEDS, "upscaleFactor": one_of(2, 3, 4, 6)}
_BLOB = fields_of({"source": fields_of({"uploadId": text(50)}, "uploadId"), "usage": one_of("general")}, "source")
_PAYLOAD = fields_of({"localeCode": text(20), "prompt_reasoner": one_of("quality", "speed")})
_IMAGE5 = {
    "prompt": text(1500),
    "aspectRatio": one_of("1:1", "4:3", "3:4", "16:9", "9:16"),
    "resolutionLevel": one_of("1MP", "2.4MP", "4MP"),
    "seeds": list_of(whole(0, 2**31 - 1), 1),
    "modelSpecificPayload": _PAYLOAD,
    "referenceBlobs": list_of(_BLOB, 1),
}
_CUSTOM = ("image3_custom", "image4_custom")
SERVICES: Mapping[str, tuple[Mapping[str, Check], tuple[str, ...], tuple[str, ...]]] = {
    "/v3/images/generate-async": (_GENERATE, ("prompt",), ("image3", "image4_standard", "image4_ultra", *_CUSTOM)),
    "/v3/images/generate-similar-async": (
        {**_VARIED, "image": _SOURCE},
        ("image",),
        ("image3", "image4_standard", "image4_ultra"),
    ),
    "/v3/images/fill-async": (_FILL, ("image", "mask"), ()),
    "/v3/images/expand-async": (_EXPAND, ("image",), ()),
    "/v3/images/upscale": (_UPSCALE, ("image", "seeds"), ("precise_upsampler_v1",)),
    "/v4/images/generate-async": (_IMAGE5, ("prompt",), ("image5",)),
}
"""Fields, those that must be there, and values of x-model-version (none: the header must be missing), by path."""


def _error(status: int, code: str, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error_code": code, "message": f"the fake says {code}"}, status=status, headers=named)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "bad_request": lambda: _error(400, "bad_request"),
    "validation": lambda: _error(422, "validation_error"),
    "too_large": lambda: web.Response(status=413, text="<html>too large</html>"),
    "unauthorized": lambda: web.json_response(
        {"error_code": "401013", "message": "Oauth token is not valid"}, status=401
    ),
    "forbidden": lambda: _error(403, "access_error", x_access_error="user_non_entitled"),
    "quota": lambda: _error(403, "access_error", x_access_error="quota_exhausted"),
    "unsafe_451": lambda: _error(451, "prompt_unsafe"),
    "bare_451": lambda: web.Response(status=451),
    "unsafe_400": lambda: _error(400, "prompt_unsafe"),
    "unsafe_403": lambda: _error(403, "prompt_entity_denied"),
    "unsafe_422": lambda: _error(422, "reference_image_unsafe_error"),
    "rate_limited": lambda: _error(429, "rate_limited", retry_after="7", x_access_rate_limit_level="org"),
    "rate_limited_bare": lambda: _error(429, "rate_limited"),
    "timeout_error": lambda: _error(408, "timeout_error"),
    "error500": lambda: _error(500, "runtime_error"),
    "not_built": lambda: _error(501, "not_implemented"),
    "overloaded": lambda: web.Response(status=503, text="no healthy upstream"),
    "bad_gateway": lambda: web.Response(status=502, text="<html>bad gateway</html>"),
    "gateway_timeout": lambda: web.Response(status=504),
    "bad_json": lambda: web.Response(text='{"jobId": "', content_type="application/json", status=202),
    "not_an_object": lambda: web.json_response(["no", "object"], status=202),
    "no_id": lambda: web.json_response({"links": {"cancel": {}}}, status=202),
}
ENDINGS: Mapping[str, Fields] = {
    "failed": {"status": "failed", "message": "no"},
    "runtime": {"status": "failed", "error_code": "runtime_error", "message": "no"},
    "unsafe": {"status": "failed", "error_code": "image_unsafe", "message": "no"},
    "input_unsafe": {"status": "failed", "error_code": "input_media_unsafe", "message": "no"},
    "legal": {"status": "failed", "error_code": "legal_error", "message": "no"},
    "invalid": {"status": "failed", "error_code": "validation_error", "message": "no"},
    "limited": {"status": "failed", "error_code": "rate_limited", "message": "no"},
    "timeout": {"status": "timeout", "error_code": "timeout_error"},
    "canceled": {"status": "canceled"},
    "cancelled": {"status": "cancelled", "message": "no"},
    "no_result": {"status": "succeeded"},
    "no_outputs": {"status": "succeeded", "result": {"outputs": []}},
}
"""How jobs may end, besides well."""


class FireflyFake(VendorFake):
    """Upload ids are told to the checks as the pictures they stand for."""

    asynchronous = True

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.tokens_given = 0
        self.revoked = False
        self.stored: dict[str, bytes] = {}
        """Pictures by upload id."""
        self.unsafe: set[bytes] = set()
        """Pictures that the storage refuses."""
        self._states = itertools.cycle(["pending", "running", "cancel_pending"])

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/ims/token/v3", self._token)
        app.router.add_post("/v2/storage/image", self._store)
        app.router.add_post("/v3/images/{service}", self._order)
        app.router.add_post("/v4/images/generate-async", self._order)
        app.router.add_get("/v3/status/{id}", self._poll)
        app.router.add_put("/v3/cancel/{id}", self._cancel)
        app.router.add_get("/v3/custom-models", self._custom_models)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        wanted = {"grant_type": "client_credentials", "client_id": self.key, "client_secret": CLIENT_SECRET}
        if dict(form) != {**wanted, "scope": SCOPE}:
            return web.json_response({"error": "invalid_client"}, status=400)
        self.tokens_given += 1
        told = {"access_token": self._current, "token_type": "bearer", "expires_in": 86399}
        return web.json_response(told)

    @property
    def _current(self) -> str:
        return f"ims-{self.tokens_given}"

    def _knows(self, request: web.Request) -> bool:
        bearer = request.headers.get("Authorization") == f"Bearer {self._current}" and not self.revoked
        return bearer and request.headers.get("x-api-key") == self.key

    async def _store(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return FAILURES["unauthorized"]()
        data = await request.read()
        if request.content_type != f"image/{described(data).split()[0]}":
            return _error(400, "invalid_content_type")
        if data in self.unsafe:
            return _error(451, "input_media_unsafe")
        upload_id = str(uuid.UUID(int=len(self.stored) + 1))
        self.stored[upload_id] = data
        return web.json_response({"images": [{"id": upload_id}]})

    async def _order(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return FAILURES["unauthorized"]()
        if request.path not in SERVICES:
            return _error(404, "not_found")
        allowed, required, versions = SERVICES[request.path]
        version = request.headers.get("x-model-version")
        if request.content_type != "application/json" or (version not in versions if versions else version is not None):
            return _error(422, "validation_error")
        fields = self._seen(await request.json())
        if wrong_fields(fields, allowed, required) or not _consistent(fields, version):
            return _error(422, "validation_error")
        prompt = str(fields.get("prompt", ""))
        failure = await self.count(request, prompt, fields)
        if failure == "reset_midway":
            return await broken_off(request, b'{"jobId": "')
        return FAILURES[failure]() if failure else self._accepted(request, prompt, fields)

    def _seen(self, value: Any) -> Any:
        """The body with the pictures behind its upload ids described; an unknown id stays and is refused."""
        if isinstance(value, list):
            return [self._seen(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            name: described(self.stored[one]) if name == "uploadId" and one in self.stored else self._seen(one)
            for name, one in value.items()
        }

    def _accepted(self, request: web.Request, prompt: str, fields: Fields) -> web.Response:
        count = len(fields.get("seeds", ())) or fields.get("numVariations", 1)
        job = self.open_job(prompt, count, {**fields, "path": request.path}, f"urn:ff:jobs:stub:{next(self._serial)}")
        status, cancel = (f"{self.origin}/v3/{verb}/{job.id}" for verb in ("status", "cancel"))
        if request.path.endswith(("/v4/images/generate-async", "/upscale")):
            links = {"result": {"href": status}, "cancel": {"href": cancel}}
            answer = 202 if request.path.endswith("/upscale") else 200
            return web.json_response({"links": links, "progress": 0}, status=answer)
        return web.json_response({"jobId": job.id, "statusUrl": status, "cancelUrl": cancel}, status=202)

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return FAILURES["unauthorized"]()
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.late == "lost":
            return _error(404, "unknown_job_id")
        if bad := await self.polled(job):
            return bad
        if job.late in FAILURES:
            return FAILURES[job.late]()
        if not job.done:
            return web.json_response({"status": next(self._states), "jobId": job.id})
        return web.json_response({"jobId": job.id, **self._ending(job)})

    def _ending(self, job: FakeJob) -> Fields:
        if job.late in ENDINGS:
            return ENDINGS[job.late]
        if job.fields["path"].endswith("/upscale"):
            outputs: list[Fields] = [{"id": "u1", "presignedUrl": self.url(job.prompt)}]
            return {"status": "succeeded", "result": {"outputs": outputs, "version": "precise_upsampler_v1"}}
        seeds = job.fields.get("seeds") or range(41, 41 + job.count)
        outputs = [{"seed": seed, "image": {"url": self.url(job.prompt)}} for seed in seeds]
        told = {"size": {"width": 1024, "height": 1024}, "contentClass": "photo", "promptHasDeniedWords": False}
        return {"status": "succeeded", "result": {**told, "outputs": outputs}}

    async def _cancel(self, request: web.Request) -> web.Response:
        if not self._knows(request):
            return FAILURES["unauthorized"]()
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _error(404, "unknown_job_id")
        if job.canceled or job.done:
            return _error(409, "conflict")
        await self.cancel(job)
        return web.Response()

    async def _custom_models(self, request: web.Request) -> web.Response:
        known = self._knows(request)
        return web.json_response({"custom_models": [{"assetId": "m1"}]}) if known else FAILURES["unauthorized"]()


def _consistent(fields: Fields, version: str | None) -> bool:
    """What no single field shows: seeds per variation, custom models, shapes beside a source image."""
    seeds = len(fields.get("seeds", ()))
    if seeds and version != "precise_upsampler_v1" and fields.get("numVariations", seeds) != seeds:
        return False
    if ("customModelId" in fields) != (version in _CUSTOM):
        return False
    return not ("referenceBlobs" in fields and "aspectRatio" in fields)
