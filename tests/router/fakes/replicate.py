"""Replicate on loopback: strict about fields, headers and each model's own input, which it names like the vendor does.

Failures of the POST are the keys of `FAILURES`; `late:` knows the keys of `ENDINGS`; `lost` is a prediction that the
vendor no longer knows when it is polled; `shape:…` are other outputs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    FakeJob,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    described,
    drop,
    flag,
    like,
    list_of,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

_PROMPT, _SEED = text(32_000), whole(0, 2**32 - 1)
_FORMAT = one_of("webp", "jpg", "png")
_RATIO = like(r"\d+:\d+")
_DIFFUSERS: dict[str, Check] = {
    "prompt": _PROMPT,
    "negative_prompt": _PROMPT,
    "width": whole(256, 1536),
    "height": whole(256, 1536),
    "num_outputs": whole(1, 4),
    "num_inference_steps": whole(1, 500),
    "guidance_scale": number(1, 50),
    "scheduler": one_of("DDIM", "K_EULER", "KarrasDPM"),
    "seed": _SEED,
    "image": a_picture,
    "mask": a_picture,
    "prompt_strength": number(0, 1),
}
_FILL: dict[str, Check] = {
    "prompt": _PROMPT,
    "seed": _SEED,
    "steps": whole(1, 50),
    "guidance": number(2, 5),
    "output_format": one_of("jpg", "png"),
}

SCHEMAS: Mapping[str, Mapping[str, Check]] = {
    "acme/painter": {
        **_DIFFUSERS,
        "output_format": _FORMAT,
        "control_image": a_picture,
        "condition_scale": number(0, 2),
        "scale": number(0, 10),
    },
    "stability-ai/sdxl": _DIFFUSERS,
    "black-forest-labs/flux-schnell": {
        "prompt": _PROMPT,
        "aspect_ratio": _RATIO,
        "num_outputs": whole(1, 4),
        "num_inference_steps": whole(1, 4),
        "seed": _SEED,
        "output_format": _FORMAT,
        "output_quality": whole(0, 100),
        "go_fast": flag,
    },
    "black-forest-labs/flux-1.1-pro": {
        "prompt": _PROMPT,
        "aspect_ratio": lambda value: value == "custom" or _RATIO(value),
        "width": whole(256, 1440),
        "height": whole(256, 1440),
        "seed": _SEED,
        "output_format": _FORMAT,
        "output_quality": whole(0, 100),
        "prompt_upsampling": flag,
    },
    "black-forest-labs/flux-1.1-pro-ultra": {
        "prompt": _PROMPT,
        "aspect_ratio": _RATIO,
        "seed": _SEED,
        "output_format": one_of("jpg", "png"),
    },
    "black-forest-labs/flux-fill-pro": {**_FILL, "image": a_picture, "mask": a_picture},
    "black-forest-labs/flux-fill-dev": {
        "prompt": _PROMPT,
        "seed": _SEED,
        "num_outputs": whole(1, 4),
        "num_inference_steps": whole(1, 50),
        "guidance": number(0, 100),
        "image": a_picture,
        "mask": a_picture,
        "output_format": _FORMAT,
    },
    "black-forest-labs/flux-canny-pro": {**_FILL, "control_image": a_picture},
    "black-forest-labs/flux-kontext-pro": {
        "prompt": _PROMPT,
        "input_image": a_picture,
        "aspect_ratio": _RATIO,
        "seed": _SEED,
        "output_format": one_of("jpg", "png"),
    },
    "google/nano-banana": {
        "prompt": _PROMPT,
        "image_input": list_of(a_picture, 10),
        "aspect_ratio": _RATIO,
        "output_format": one_of("jpg", "png"),
    },
    "ideogram-ai/ideogram-v3-turbo": {
        "prompt": _PROMPT,
        "seed": _SEED,
        "aspect_ratio": _RATIO,
        "image": a_picture,
        "mask": a_picture,
    },
    "nightmareai/real-esrgan": {"image": a_picture, "scale": number(0, 10)},
    "bria/remove-background": {"image": a_picture},
}
"""Inputs by model, from the models' API pages."""

BODY: Mapping[str, Check] = {
    "version": like(r"[\w.-]+/[\w.-]+(:[0-9a-f]{64})?|[0-9a-f]{64}"),
    "input": lambda value: isinstance(value, dict),
    "webhook": like(r"https://\S+"),
    "webhook_events_filter": list_of(one_of("start", "output", "logs", "completed"), 4),
}


def _problem(status: int, detail: str, **headers: str) -> web.Response:
    body = {"title": "stub", "status": status, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json", headers=headers)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "unauthorized": lambda: _problem(401, "You did not pass a valid authentication token"),
    "payment": lambda: _problem(402, "You have insufficient credit to run this model."),
    "no_model": lambda: _problem(404, "The requested resource could not be found."),
    "unprocessable": lambda: _problem(422, "- input.width: Must be less than or equal to 1440"),
    "rate_limited": lambda: _problem(429, "Request was throttled. Your rate limit resets in ~30s."),
    "rate_limited_header": lambda: _problem(429, "Request was throttled.", **{"Retry-After": "7"}),
    "error500": lambda: _problem(500, "Internal server error"),
    "overloaded": lambda: _problem(503, "Service unavailable"),
    "bad_gateway": lambda: web.Response(status=502, text="bad gateway"),
    "gateway_timeout": lambda: web.Response(status=504, text="timeout"),
    "bad_json": lambda: web.Response(status=201, text='{"id": "abc', content_type="application/json"),
    "no_id": lambda: web.json_response({"status": "starting"}, status=201),
}
ENDINGS: Mapping[str, tuple[str, str | None]] = {
    "nsfw": ("failed", "NSFW content detected. Try running it again, or try a different prompt."),
    "flagged": ("failed", "The input or output was flagged as sensitive. Please try again. (E005)"),
    "crashed": ("failed", "CUDA out of memory"),
    "canceled": ("canceled", None),
    "aborted": ("aborted", None),
}


class ReplicateFake(VendorFake):
    """The vendor."""

    key = "r8_stub"
    asynchronous = True

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/predictions", self._create)
        app.router.add_post("/v1/deployments/{owner}/{name}/predictions", self._create)
        app.router.add_get("/v1/predictions/{id}", self._get)
        app.router.add_post("/v1/predictions/{id}/cancel", self._cancel)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/download", self._own_file)
        app.router.add_get("/v1/account", self._account)

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return FAILURES["unauthorized"]()
        return None

    async def _create(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        deployment = "owner" in request.match_info
        wrong = wrong_fields(body, {**BODY, "version": one_of()} if deployment else BODY, ("input",))
        if wrong or request.content_type != "application/json" or not _duration(request):
            return _problem(422, f"unknown or invalid: {wrong}")
        model = "acme/painter" if deployment else body["version"].partition(":")[0]
        inputs = {name: self._read(value) for name, value in body["input"].items()}
        if wrong := wrong_fields(inputs, SCHEMAS.get(model, {})):
            return _problem(422, f"- input: unknown or invalid: {wrong}")
        fields = {**{name: value for name, value in body.items() if name != "input"}, **inputs}
        failure = await self.count(request, inputs.get("prompt", ""), fields)
        if failure in FAILURES:
            return FAILURES[failure]()
        job = self.open_job(inputs.get("prompt", ""), inputs.get("num_outputs", 1), {"model": model})
        job.call_back = body.get("webhook", "")
        if failure == "reset_midway":
            return await broken_off(request, b'{"id": "abc')
        return web.json_response(self.prediction(job), status=201)

    def _read(self, value: Any) -> Any:
        """Pictures as what they are; an address must be of our uploads."""
        if isinstance(value, list):
            return [self._read(item) for item in value]
        if isinstance(value, str) and value.startswith("data:image/"):
            data = base64.b64decode(value.partition(";base64,")[2], validate=True)
            assert len(data) <= 256 * 1024, "the vendor wants large files uploaded"
            self.sources.append(data)
            return described(data)
        if isinstance(value, str) and value.startswith(f"{self.origin}/v1/files/"):
            data = self.uploads[value.rpartition("/")[2]]
            self.sources.append(data)
            return described(data)
        return value

    async def _upload(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        if self.failing_upload is not None:
            return web.Response(status=self.failing_upload[0], text=self.failing_upload[1])
        form = await request.post()
        file = form["content"]
        assert list(form) == ["content"]
        assert isinstance(file, web.FileField)
        file_id = f"file{len(self.uploads)}"
        self.uploads[file_id] = file.file.read()
        return web.json_response({"id": file_id, "urls": {"get": f"{self.origin}/v1/files/{file_id}"}}, status=201)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.prompt == "lost":
            return _problem(404, "not found")
        if job.prompt == "cut" and not job.polls:
            job.polls += 1
            drop(request)
        bad = await self.polled(job)
        return bad if bad is not None else web.json_response(self.prediction(job))

    async def _cancel(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return _problem(404, "not found")
        if not job.done:
            await self.cancel(job)
        return web.json_response(self.prediction(job))

    async def _own_file(self, request: web.Request) -> web.Response:
        return self._refused(request) or web.Response(body=self.png(), content_type="image/png")

    async def _account(self, request: web.Request) -> web.Response:
        return self._refused(request) or web.json_response({"type": "organization", "username": "acme"})

    def prediction(self, job: FakeJob) -> Fields:
        """The job as the vendor tells it."""
        state, error = "succeeded" if job.done else "processing" if job.polls else "starting", None
        if job.done and job.late:
            state, error = ENDINGS[job.late]
        if job.canceled:
            state = "canceled"
        ended = state not in ("starting", "processing")
        return {
            "id": job.id,
            "model": job.fields["model"],
            "version": "hidden" if job.prompt == "hidden" else "5c7d5dc6",
            "status": state,
            "error": error,
            "data_removed": job.prompt == "shape:removed",
            "output": self._output(job) if state == "succeeded" else None,
            "logs": "NSFW content detected in image 2"
            if job.prompt == "shape:dropped" and job.done
            else "Using seed: 7\n 25%|##5       | 3/12 [00:01<00:03,  2.9it/s]"
            if job.polls
            else "",
            "metrics": {"predict_time": 1.2345, "total_time": 2.0} if ended else {},
            "urls": {"get": f"{self.origin}/v1/predictions/{job.id}"},
        }

    def _output(self, job: FakeJob) -> object:
        urls = [self.url(job.prompt) for _ in range(job.count)]
        if job.prompt == "shape:removed":
            return None
        if job.prompt in ("shape:dropped", "shape:fewer"):
            return urls[:-1]
        if job.prompt == "shape:text":
            return "a fox, in words"
        if job.prompt == "shape:object":
            return {"images": urls, "seed": 7}
        if job.prompt == "shape:own":
            return f"{self.origin}/v1/files/{job.id}/download"
        if job.prompt == "shape:data":
            return "data:image/png;base64," + base64.b64encode(self.png()).decode()
        return urls[0] if not job.prompt or job.prompt == "shape:string" else urls

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.uploads: dict[str, bytes] = {}
        self.failing_upload: tuple[int, str] | None = None
        self.sources: list[bytes] = []
        """Pictures of the inputs in order, as bytes."""


def _duration(request: web.Request) -> bool:
    return like(r"\d+s")(request.headers.get("Cancel-After", "")) and int(request.headers["Cancel-After"][:-1]) >= 5
