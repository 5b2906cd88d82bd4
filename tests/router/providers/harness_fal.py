"""fal in the contract suite, by an endpoint that nobody has described; the others are in `test_fal`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.fal import Fal
from services.router.providers.webhooks import CallBack
from tests.router.fakes.fal import FalFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

PICTURE = "png 64x64"
UNKNOWN: Mapping[str, object] = {
    "prompt": "a red fox",
    "negative_prompt": "blur",
    "seed": 7,
    "num_inference_steps": 12,
    "guidance_scale": 4.5,
    "scheduler": "ddim",
    "output_format": "png",
}


class FalHarness(VendorHarness):
    fake_type = FalFake
    fake: FalFake
    stall = "stall"
    model = "acme/painter"
    models: Mapping[str, str] = {"UPSCALE": "fal-ai/esrgan", "REMOVE_BACKGROUND": "fal-ai/bria/background/remove"}
    failures = (
        Provoked("fail:policy", ErrorKind.REFUSED),
        Provoked("late:policy", ErrorKind.REFUSED),
        Provoked("late:nsfw", ErrorKind.REFUSED),
        Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
        Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
        Provoked("late:too_small", ErrorKind.BAD_REQUEST),
        Provoked("late:nothing", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
        Provoked("fail:locked", ErrorKind.QUOTA),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:error500", ErrorKind.OVERLOADED),
        Provoked("fail:overloaded", ErrorKind.OVERLOADED),
        Provoked("late:crashed", ErrorKind.OVERLOADED),
        Provoked("late:ingress", ErrorKind.OVERLOADED),
        Provoked("late:status", ErrorKind.OVERLOADED),
        Provoked("late:timeout", ErrorKind.TIMEOUT),
        Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("lost", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_id", ErrorKind.BROKEN_ANSWER),
        Provoked("late:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("late:empty", ErrorKind.BROKEN_ANSWER),
        Provoked("late:gone", ErrorKind.BROKEN_ANSWER),
        Provoked("late:throttled", ErrorKind.BROKEN_ANSWER),
        Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
        Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
    )

    def open(self) -> Provider:
        origin = self.fake.origin
        settings = {"platform": f"{origin}/platform", "jwks": f"{origin}/jwks.json"}
        return Fal(Account("stub", origin, SecretStr(self.fake.key), settings=settings), self.http)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**UNKNOWN, "image_size": {"width": 512, "height": 256}}

    def expected(self, operation: str) -> Mapping[str, object]:
        source = {**UNKNOWN, "image_url": PICTURE}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": {**source, "strength": 0.6},
            "INPAINT": {**source, "strength": 0.6, "mask_url": PICTURE},
            "OUTPAINT": {**source, "image_url": "png 128x64", "mask_url": "png 128x64"},
            "CONTROL": {
                **self.expected_fields,
                "control_image_url": PICTURE,
                "controlnet_conditioning_scale": 0.5,
            },
            "EDIT": source,
            "UPSCALE": {"image_url": PICTURE, "scale": 4},
            "REMOVE_BACKGROUND": {"image_url": PICTURE},
        }
        return own[operation]

    def was_canceled(self, provider_request_id: str) -> bool:
        return self.fake.canceled(provider_request_id.rpartition("/")[2])

    async def call_backs(self, provider_request_id: str) -> tuple[CallBack, CallBack]:
        job_id = provider_request_id.rpartition("/")[2]
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.fake.jobs[job_id].call_back).query).items()}
        assert query["t"]
        headers, body = self.fake.call_back(job_id)
        forged = {**headers, "x-fal-webhook-signature": "00" * 64}
        return CallBack(headers, body, query), CallBack(forged, body, query)
