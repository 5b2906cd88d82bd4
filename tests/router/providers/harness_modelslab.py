"""ModelsLab in the contract suite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.modelslab import ModelsLab
from services.router.providers.webhooks import CallBack
from tests.router.fakes.modelslab import ModelsLabFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

PICTURE = "png 64x64"
DRAWN: Mapping[str, object] = {
    "model_id": "acme-painter",
    "prompt": "a red fox",
    "negative_prompt": "blur",
    "samples": "1",
    "num_inference_steps": "12",
    "guidance_scale": 4.5,
    "seed": 7,
    "scheduler": "DDIMScheduler",
    "temp": "yes",
    "track_id": "att_1",
    "safety_checker": "yes",
    "safety_checker_type": "black",
}


class ModelsLabHarness(VendorHarness):
    fake_type = ModelsLabFake
    fake: ModelsLabFake
    stall = "stall"
    model = "acme-painter"
    models: Mapping[str, str] = {"UPSCALE": "RealESRGAN_x2plus"}
    failures = (
        Provoked("fail:nsfw", ErrorKind.REFUSED),
        Provoked("fail:banned", ErrorKind.REFUSED),
        Provoked("late:flagged", ErrorKind.REFUSED),
        Provoked("late:nsfw", ErrorKind.REFUSED),
        Provoked("late:black", ErrorKind.REFUSED),
        Provoked("fail:required", ErrorKind.BAD_REQUEST),
        Provoked("fail:required_200", ErrorKind.BAD_REQUEST),
        Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
        Provoked("late:invalid", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:unauthorized_200", ErrorKind.AUTHENTICATION),
        Provoked("fail:credits", ErrorKind.QUOTA),
        Provoked("fail:credits_200", ErrorKind.QUOTA),
        Provoked("fail:premium", ErrorKind.QUOTA),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=30.0),
        Provoked("fail:rate_limited_200", ErrorKind.RATE_LIMITED, retry_after=30.0),
        Provoked("fail:error500", ErrorKind.OVERLOADED),
        Provoked("fail:overloaded", ErrorKind.OVERLOADED),
        Provoked("fail:try_again", ErrorKind.OVERLOADED),
        Provoked("late:crashed", ErrorKind.OVERLOADED),
        Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("lost", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("late:gone", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_id", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:nothing", ErrorKind.BROKEN_ANSWER),
        Provoked("late:empty", ErrorKind.BROKEN_ANSWER),
        Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
        Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {"cancel": "only its enterprise servers can empty their queue"}

    def open(self) -> Provider:
        return ModelsLab(Account("stub", f"{self.fake.origin}/api/v6", SecretStr(self.fake.key)), self.http)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**DRAWN, "width": "512", "height": "256"}

    def expected(self, operation: str) -> Mapping[str, object]:
        source = {**DRAWN, "width": "64", "height": "64", "init_image": PICTURE}
        wide = {"width": "128", "init_image": "png 128x64", "mask_image": "png 128x64"}
        control = {"controlnet_model": "canny", "controlnet_type": "canny", "controlnet_conditioning_scale": 0.5}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": {**source, "strength": 0.6},
            "EDIT": source,
            "INPAINT": {**source, "strength": 0.6, "mask_image": PICTURE},
            "OUTPAINT": {**source, **wide},
            "CONTROL": {**self.expected_fields, **control, "control_image": PICTURE},
            "UPSCALE": {"model_id": "RealESRGAN_x2plus", "init_image": PICTURE, "scale": 3},
            "REMOVE_BACKGROUND": {"image": PICTURE},
        }
        return own[operation]

    async def call_backs(self, provider_request_id: str) -> tuple[CallBack, CallBack]:
        """It signs nothing: a forged one is about an order that the vendor does not know."""
        job_id = provider_request_id.rpartition("/")[2]
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.fake.jobs[job_id].call_back).query).items()}
        assert query["t"]
        genuine, forged = ({"status": "success", "id": int(number), "output": []} for number in (job_id, "999"))
        return CallBack({}, json.dumps(genuine).encode(), query), CallBack({}, json.dumps(forged).encode(), query)
