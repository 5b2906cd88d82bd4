"""fal on loopback: the queue, the price list, the keys of call backs; strict about headers and endpoints' inputs.

Failures of the POST are the keys of `FAILURES`; `late:` knows the keys of `ENDINGS`, `nsfw`, `half_nsfw` and `status`
(the final status names an error); `lost` is an order that is no longer known when its status is asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.router.fakes.vendor import (
    Check,
    FakeJob,
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

_PROMPT, _SEED = text(32_000), whole(0, 2**32 - 1)
_FORMAT = one_of("jpeg", "png", "webp")
_RATIO = like(r"\d+:\d+")


def _size(value: Any) -> bool:
    return not wrong_fields(value, {"width": whole(64, 4096), "height": whole(64, 4096)}, ("width", "height"))


_COMMON: dict[str, Check] = {
    "prompt": _PROMPT,
    "seed": _SEED,
    "num_images": whole(1, 4),
    "output_format": _FORMAT,
}
_TUNED: dict[str, Check] = {"num_inference_steps": whole(1, 100), "guidance_scale": number(0, 35)}
_FILLED: dict[str, Check] = {"image_url": a_picture, "mask_url": a_picture}

SCHEMAS: Mapping[str, Mapping[str, Check]] = {
    "acme/painter": {
        **_COMMON,
        **_TUNED,
        **_FILLED,
        "negative_prompt": _PROMPT,
        "image_size": _size,
        "scheduler": text(40),
        "strength": number(0, 1),
        "control_image_url": a_picture,
        "controlnet_conditioning_scale": number(0, 2),
        "upscale_factor": number(1, 8),
    },
    "fal-ai/flux/dev": {**_COMMON, **_TUNED, "image_size": _size},
    "fal-ai/flux-pro/v1.1": {**_COMMON, "image_size": _size, "enhance_prompt": flag},
    "fal-ai/flux-pro/v1.1-ultra": {**_COMMON, "aspect_ratio": _RATIO},
    "fal-ai/flux-pro/v1/fill": {**_COMMON, **_FILLED},
    "fal-ai/flux-pro/kontext": {
        **_COMMON,
        "guidance_scale": number(1, 20),
        "aspect_ratio": _RATIO,
        "image_url": a_picture,
    },
    "fal-ai/flux-control-lora-canny": {
        **_COMMON,
        **_TUNED,
        "image_size": _size,
        "control_lora_image_url": a_picture,
        "control_lora_strength": number(0, 2),
    },
    "fal-ai/nano-banana/edit": {
        "prompt": _PROMPT,
        "num_images": whole(1, 4),
        "output_format": one_of("jpeg", "png"),
        "aspect_ratio": _RATIO,
        "image_urls": list_of(a_picture, 10),
    },
    "fal-ai/ideogram/v3/edit": {
        **_FILLED,
        "prompt": _PROMPT,
        "seed": _SEED,
        "num_images": whole(1, 8),
        "style": text(20),
    },
    "fal-ai/esrgan": {"image_url": a_picture, "scale": number(1, 8)},
    "fal-ai/bria/background/remove": {"image_url": a_picture},
}
"""Inputs by endpoint, from the endpoints' API pages."""


def _detail(status: int, kind: str, **headers: str) -> web.Response:
    body = {"detail": [{"loc": ["body", "prompt"], "msg": "stub", "type": kind, "url": "", "input": {}}]}
    return web.json_response(body, status=status, headers=headers)


def _gateway(status: int, detail: str, kind: str = "", **headers: str) -> web.Response:
    return web.json_response({"detail": detail, "error_type": kind}, status=status, headers=headers)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "policy": lambda: _detail(422, "content_policy_violation"),
    "unprocessable": lambda: _detail(422, "less_than_equal"),
    "no_model": lambda: _gateway(404, "Application 'x' not found"),
    "unauthorized": lambda: _gateway(401, "Cannot access application. Authentication is required."),
    "forbidden": lambda: _gateway(403, "Permission denied"),
    "locked": lambda: _gateway(403, "User is locked. Reason: Exhausted balance. Top up your balance."),
    "rate_limited": lambda: _gateway(429, "Too many requests", **{"Retry-After": "7"}),
    "error500": lambda: _gateway(500, "Internal Server Error"),
    "overloaded": lambda: _gateway(503, "no runner", "runner_scheduling_failure"),
    "bad_gateway": lambda: web.Response(status=502, text="bad gateway"),
    "gateway_timeout": lambda: web.Response(status=504, text="timeout"),
    "bad_json": lambda: web.Response(text='{"request_id": "abc', content_type="application/json"),
    "no_id": lambda: web.json_response({"status": "IN_QUEUE"}),
}
ENDINGS: Mapping[str, Callable[[], web.Response]] = {
    "policy": lambda: _detail(422, "content_policy_violation"),
    "policy_second": lambda: web.json_response(
        {"detail": [{"type": "value_error", "msg": "x"}, {"type": "content_policy_violation", "msg": "x"}]}, status=422
    ),
    "policy_status": lambda: web.json_response({"detail": "failed"}, status=422),
    "too_small": lambda: _detail(422, "image_too_small"),
    "nothing": lambda: _detail(422, "no_media_generated"),
    "crashed": lambda: _detail(500, "internal_server_error"),
    "timeout": lambda: _detail(504, "generation_timeout"),
    "ingress": lambda: web.Response(status=502, text="bad gateway"),
    "gone": lambda: _gateway(404, "Request not found"),
    "throttled": lambda: _gateway(429, "Too many requests"),
    "bad_json": lambda: web.Response(text='{"images": [', content_type="application/json"),
    "empty": lambda: web.json_response({"images": [], "seed": 1}),
}


class FalFake(VendorFake):
    """The vendor."""

    key = "fal-id:fal-secret"
    asynchronous = True
    admin = True
    """Whether the key may see the account's credits."""
    units = "1.5"
    """Billed units that outputs tell."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.sources: list[bytes] = []
        """Pictures of the inputs in order, as bytes."""
        self.priced = 0
        """How often the price list was read."""
        self._signing = Ed25519PrivateKey.generate()

    def routes(self, app: web.Application) -> None:
        order = "/{owner}/{alias}/requests/{id}"
        app.router.add_get("/platform/models/pricing", self._pricing)
        app.router.add_get("/platform/account/billing", self._billing)
        app.router.add_get("/jwks.json", self._jwks)
        app.router.add_get(order + "/status", self._status)
        app.router.add_get(order, self._output)
        app.router.add_put(order + "/cancel", self._cancel)
        app.router.add_post("/{endpoint:.+}", self._submit)

    def _refused(self, request: web.Request) -> web.Response | None:
        return None if request.headers.get("Authorization") == f"Key {self.key}" else FAILURES["unauthorized"]()

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        endpoint, wrong = request.match_info["endpoint"], _wrong_headers(request)
        if wrong or set(request.query) - {"fal_webhook"}:
            return _gateway(422, f"unknown or invalid: {wrong}")
        if endpoint not in SCHEMAS:
            return FAILURES["no_model"]()
        inputs = {name: self._read(value) for name, value in (await request.json()).items()}
        if wrong_fields(inputs, SCHEMAS[endpoint]):
            return FAILURES["unprocessable"]()
        failure = await self.count(request, inputs.get("prompt", ""), inputs)
        if failure in FAILURES:
            return FAILURES[failure]()
        app = "/".join(endpoint.split("/")[:2])
        job = self.open_job(
            inputs.get("prompt", ""), inputs.get("num_images", 1), {"app": app, "single": not inputs.get("prompt")}
        )
        job.call_back = request.query.get("fal_webhook", "")
        if failure == "reset_midway":
            return await broken_off(request, b'{"request_id": "abc')
        url = f"{self.origin}/{app}/requests/{job.id}"
        return web.json_response(
            {
                "request_id": job.id,
                "response_url": url,
                "status_url": f"{url}/status",
                "cancel_url": f"{url}/cancel",
                "queue_position": 0,
            }
        )

    def _read(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._read(item) for item in value]
        if isinstance(value, str) and value.startswith("data:image/"):
            data = base64.b64decode(value.partition(";base64,")[2], validate=True)
            self.sources.append(data)
            return described(data)
        return value

    def _job(self, request: web.Request) -> FakeJob | None:
        job = self.jobs.get(request.match_info["id"])
        at = f"{request.match_info['owner']}/{request.match_info['alias']}"
        return job if job is not None and job.fields["app"] == at and job.prompt != "lost" else None

    async def _status(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        job = self._job(request)
        if job is None:
            return _gateway(404, "Request not found")
        if (bad := await self.polled(job)) is not None:
            return bad
        if not job.done:
            told: dict[str, Any] = {"status": "IN_QUEUE" if job.polls < 2 else "IN_PROGRESS", "queue_position": 0}
            return web.json_response(told, status=202)
        failed = {"error": "runner is gone", "error_type": "runner_disconnected"} if job.late == "status" else {}
        if job.late == "policy_status":
            failed = {"error": "flagged", "error_type": "content_policy_violation"}
        return web.json_response({"status": "COMPLETED", "metrics": {"inference_time": 1.2345}, **failed})

    async def _output(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        job = self._job(request)
        if job is None or not job.done:
            return _gateway(400, "Request is still in progress")
        if job.late in ENDINGS:
            return ENDINGS[job.late]()
        pictures = [{"url": self.url(job.prompt), "content_type": "image/png"} for _ in range(job.count)]
        output: dict[str, Any] = {"image": pictures[0]} if job.fields["single"] else {"images": pictures, "seed": 42}
        if job.late in ("nsfw", "half_nsfw"):
            output["has_nsfw_concepts"] = [job.late == "nsfw" or place == 0 for place in range(job.count)]
        return web.json_response(output, headers={"X-Fal-Billable-Units": self.units})

    async def _cancel(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        job = self._job(request)
        if job is None:
            return _gateway(404, "Request not found")
        if job.canceled or job.done:
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        await self.cancel(job)
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    async def _pricing(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        self.priced += 1
        endpoint = request.query["endpoint_id"]
        price = {"endpoint_id": endpoint, "unit_price": 0.025, "unit": "megapixel", "currency": "USD"}
        return web.json_response({"prices": [price], "has_more": False, "next_cursor": None})

    async def _billing(self, request: web.Request) -> web.Response:
        if not self.admin:
            return FAILURES["forbidden"]()
        told = {"username": "acme", "credits": {"current_balance": 24.5, "currency": "USD"}}
        return self._refused(request) or web.json_response(told)

    async def _jwks(self, _request: web.Request) -> web.Response:
        raw = self._signing.public_key().public_bytes_raw()
        key = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).decode().rstrip("=")}
        return web.json_response({"keys": [key]})

    def call_back(self, job_id: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of a call back about an order."""
        body = json.dumps({"request_id": job_id, "gateway_request_id": job_id, "status": "OK", "payload": {}}).encode()
        told = (job_id, "user-1", str(int(time.time())))
        signed = "\n".join((*told, hashlib.sha256(body).hexdigest())).encode()
        names = ("request-id", "user-id", "timestamp", "signature")
        values = (*told, self._signing.sign(signed).hex())
        return {f"x-fal-webhook-{name}": value for name, value in zip(names, values, strict=True)}, body


def _wrong_headers(request: web.Request) -> list[str]:
    wanted: dict[str, Check] = {
        "Content-Type": one_of("application/json"),
        "X-Fal-No-Retry": one_of("1"),
        "X-App-Fal-Disable-Fallback": one_of("true"),
        "X-Fal-Request-Timeout": like(r"[1-9]\d*"),
        "X-Fal-Object-Lifecycle-Preference": like(r'\{"expiration_duration_seconds":\d+\}'),
    }
    return [name for name, check in wanted.items() if not check(request.headers.get(name))]
