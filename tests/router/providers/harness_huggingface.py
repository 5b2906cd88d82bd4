"""Hugging Face in the contract suite: the router, and an endpoint whose handler takes a mask."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.huggingface import HuggingFace
from tests.router.fakes.huggingface import HuggingFaceFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

PICTURE = "png 64x64"
TUNED: Mapping[str, object] = {"negative_prompt": "blur", "guidance_scale": 4.5, "num_inference_steps": 12}
_PLAIN: Mapping[str, object] = {"scheduler": ""}


class RouterHarness(VendorHarness):
    fake_type = HuggingFaceFake
    fake: HuggingFaceFake
    variant = ""
    model = "acme/painter"
    stall = "stall"
    changes: Mapping[str, Mapping[str, object]] = {"IMAGE_TO_IMAGE": _PLAIN, "EDIT": _PLAIN, "INPAINT": _PLAIN}
    failures = (
        Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
        Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
        Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
        Provoked("fail:payment", ErrorKind.QUOTA),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:loading", ErrorKind.OVERLOADED, retry_after=20.0),
        Provoked("fail:asleep", ErrorKind.OVERLOADED),
        Provoked("fail:out_of_memory", ErrorKind.OVERLOADED),
        Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("fail:json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:empty", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "refusal": "its tasks judge nothing: no answer names a refusal",
        "resume": "it answers in the same call, and orders have no id",
        "cancel": "orders have no id to call off",
        "webhook": "it calls nobody",
    }

    def open(self) -> Provider:
        settings = {"hub": self.fake.origin}
        return HuggingFace(Account("stub", self.fake.origin, SecretStr(self.fake.key), settings=settings), self.http)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"inputs": "a red fox", **TUNED, "width": 512, "height": 256, "scheduler": "ddim", "seed": 7}

    def expected(self, operation: str) -> Mapping[str, object]:
        edited = {"inputs": PICTURE, "prompt": "a red fox", **TUNED}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": edited,
            "EDIT": edited,
            "INPAINT": {**edited, "mask_image": PICTURE},
        }
        return own[operation]


class EndpointHarness(RouterHarness):
    variant = "endpoint"

    def open(self) -> Provider:
        url, settings = f"{self.fake.origin}/endpoint", {"mask": "mask_image"}
        return HuggingFace(Account("stub", url, SecretStr(self.fake.key), "endpoint", settings=settings), self.http)
