"""AUTOMATIC1111 in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.a1111 import WebUi
from services.router.providers.base import Account, ControlImage, Provider
from services.router.providers.errors import ErrorKind
from tests.router.fakes.a1111 import CHECKPOINT, CONTROL_MODEL, UPSCALER, A1111Fake
from tests.router.providers.harness_base import SILENT, SOURCE, Provoked, VendorHarness

PICTURE = "png 64x64"
SETTINGS = {"esrgan": UPSCALER, "control.canny": f"canny, {CONTROL_MODEL}"}


class A1111Harness(VendorHarness):
    fake_type = A1111Fake
    fake: A1111Fake
    variant = ""
    model = CHECKPOINT
    models: Mapping[str, str] = {"UPSCALE": "esrgan"}
    changes: Mapping[str, Mapping[str, object]] = {"CONTROL": {"controls": (ControlImage("canny", SOURCE, 0.5),)}}
    stall = "stall"
    failures = (
        Provoked("fail:no_sampler", ErrorKind.BAD_REQUEST),
        Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
        Provoked("fail:other_checkpoint", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:out_of_memory", ErrorKind.OVERLOADED),
        Provoked("fail:proxy", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_info", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_images", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "refusal": "AUTOMATIC1111 judges nothing",
        "quota": "a server of one's own has no credit",
        "rate limit": "AUTOMATIC1111 has no limits: calls wait for one another",
        "resume": "AUTOMATIC1111 keeps no result to ask for",
        "cancel": "AUTOMATIC1111's interrupt stops whatever job runs, also somebody else's",
        "webhook": "AUTOMATIC1111 calls nobody",
    }

    def open(self) -> Provider:
        return WebUi(
            Account("stub", self.fake.origin, SecretStr(self.fake.key), settings=SETTINGS), self.http, pause=0.01
        )

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**self._drawn, "width": 512, "height": 256}

    @property
    def _drawn(self) -> Mapping[str, object]:
        return {
            "prompt": "a red fox",
            "negative_prompt": "blur",
            "seed": 7,
            "steps": 12,
            "cfg_scale": 4.5,
            "sampler_name": "DDIM",
            "override_settings": {"sd_model_checkpoint": CHECKPOINT},
            "force_task_id": "att_1",
        }

    def expected(self, operation: str) -> Mapping[str, object]:
        source = {**self._drawn, "init_images": [PICTURE], "resize_mode": 1, "width": 64, "height": 64}
        mask = {"mask": PICTURE, "inpainting_mask_invert": 0, "inpaint_full_res": False, "inpainting_fill": 1}
        wide = {"init_images": ["png 128x64"], "mask": "png 128x64", "width": 128}
        unit = {"enabled": True, "module": "canny", "model": CONTROL_MODEL, "weight": 0.5, "image": PICTURE}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": {**source, "denoising_strength": 0.6},
            "INPAINT": {**source, **mask, "denoising_strength": 0.6},
            "OUTPAINT": {**source, **mask, **wide, "denoising_strength": 1.0},
            "UPSCALE": {"resize_mode": 0, "upscaling_resize": 4, "upscaler_1": UPSCALER, "image": PICTURE},
            "CONTROL": {**self.expected_fields, "alwayson_scripts": {"controlnet": {"args": [unit]}}},
        }
        return own[operation]
