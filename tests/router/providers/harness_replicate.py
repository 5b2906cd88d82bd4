"""Replicate in the contract suite: models with a dialect of their own, and as a deployment the default one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import replace

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.replicate import Replicate
from services.router.providers.webhooks import CallBack
from tests.router.fakes.replicate import ReplicateFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

SECRET = b"stub-signing-secret-0123"
PICTURE = "png 64x64"
DIFFUSERS: Mapping[str, object] = {
    "prompt": "a red fox",
    "negative_prompt": "blur",
    "seed": 7,
    "num_inference_steps": 12,
    "guidance_scale": 4.5,
    "scheduler": "DDIM",
}
SIZE: Mapping[str, object] = {"width": 1024, "height": 512}
UNKNOWN: Mapping[str, object] = {**DIFFUSERS, "output_format": "png"}
"""What a model gets that nobody has described."""
_PLAIN: Mapping[str, object] = {"negative_prompt": "", "scheduler": ""}


def standard_webhook(body: bytes, key: bytes) -> CallBack:
    """A call back signed by Standard Webhooks."""
    stamp = str(int(time.time()))
    signed = hmac.new(key, b"msg_1." + stamp.encode() + b"." + body, hashlib.sha256).digest()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    return CallBack(headers, body)


class ReplicateHarness(VendorHarness):
    fake_type = ReplicateFake
    fake: ReplicateFake
    variant = ""
    billed_when_canceled = True
    stall = "stall"
    size = (1024, 512)
    model = "stability-ai/sdxl:" + "0" * 64
    models: Mapping[str, str] = {
        "OUTPAINT": "black-forest-labs/flux-fill-dev",
        "CONTROL": "acme/painter",
        "EDIT": "acme/painter",
        "UPSCALE": "nightmareai/real-esrgan",
        "REMOVE_BACKGROUND": "bria/remove-background",
    }
    fields: Mapping[str, object] = {"scheduler": "DDIM"}
    changes: Mapping[str, Mapping[str, object]] = {
        "OUTPAINT": _PLAIN,
        "UPSCALE": {"scheduler": ""},
        "REMOVE_BACKGROUND": {"scheduler": ""},
    }
    failures = (
        Provoked("late:nsfw", ErrorKind.REFUSED),
        Provoked("late:flagged", ErrorKind.REFUSED),
        Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
        Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:payment", ErrorKind.QUOTA),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=30.0),
        Provoked("fail:rate_limited_header", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:error500", ErrorKind.OVERLOADED),
        Provoked("fail:overloaded", ErrorKind.OVERLOADED),
        Provoked("late:crashed", ErrorKind.OVERLOADED),
        Provoked("late:aborted", ErrorKind.OVERLOADED),
        Provoked("late:canceled", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("lost", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_id", ErrorKind.BROKEN_ANSWER),
        Provoked("shape:removed", ErrorKind.BROKEN_ANSWER),
        Provoked("shape:text", ErrorKind.BROKEN_ANSWER),
        Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
        Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
    )

    def open(self) -> Provider:
        secret = "whsec_" + base64.b64encode(SECRET).decode()
        account = Account("stub", f"{self.fake.origin}/v1", SecretStr(self.fake.key), self.variant)
        return Replicate(replace(account, secrets={"webhook": SecretStr(secret)}), self.http)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"version": self.model, **DIFFUSERS, **SIZE, "num_outputs": 1}

    def expected(self, operation: str) -> Mapping[str, object]:
        sdxl = {"version": self.model, **DIFFUSERS, "num_outputs": 1, "image": PICTURE, "prompt_strength": 0.6}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": sdxl,
            "INPAINT": {**sdxl, "mask": PICTURE},
            "OUTPAINT": {
                "prompt": "a red fox",
                "seed": 7,
                "num_outputs": 1,
                "num_inference_steps": 12,
                "guidance": 4.5,
                "output_format": "png",
                "image": "png 128x64",
                "mask": "png 128x64",
            },
            "CONTROL": {**UNKNOWN, **SIZE, "control_image": PICTURE, "condition_scale": 0.5},
            "EDIT": {**UNKNOWN, "image": PICTURE},
            "UPSCALE": {"image": PICTURE, "scale": 2},
            "REMOVE_BACKGROUND": {"image": PICTURE},
        }
        return {"version": self.models.get(operation, self.model), **own[operation]}

    async def call_backs(self, provider_request_id: str) -> tuple[CallBack, CallBack]:
        body = json.dumps(self.fake.prediction(self.fake.jobs[provider_request_id])).encode()
        return standard_webhook(body, SECRET), standard_webhook(body, b"another secret")


class DeploymentHarness(ReplicateHarness):
    variant = "deployment"
    model = "acme/deployed"
    models: Mapping[str, str] = {}
    changes: Mapping[str, Mapping[str, object]] = {
        "UPSCALE": {"scheduler": "", "output_format": ""},
        "REMOVE_BACKGROUND": {"scheduler": ""},
    }

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**UNKNOWN, **SIZE}

    def expected(self, operation: str) -> Mapping[str, object]:
        source = {**UNKNOWN, "image": PICTURE}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": {**source, "prompt_strength": 0.6},
            "INPAINT": {**source, "prompt_strength": 0.6, "mask": PICTURE},
            "OUTPAINT": {**source, "image": "png 128x64", "mask": "png 128x64"},
            "CONTROL": {**UNKNOWN, **SIZE, "control_image": PICTURE, "condition_scale": 0.5},
            "EDIT": source,
            "UPSCALE": {"image": PICTURE, "scale": 2},
            "REMOVE_BACKGROUND": {"image": PICTURE, "output_format": "png"},
        }
        return own[operation]
