"""Stability AI in the contract suite: services that answer at once, and those that answer with an id."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.polling import Pace
from services.router.providers.stability import Stability
from tests.router.fakes.stability import StabilityFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

_FAILURES = (
    Provoked("fail:moderation", ErrorKind.REFUSED),
    Provoked("fail:public_figure", ErrorKind.REFUSED),
    Provoked("fail:language", ErrorKind.BAD_REQUEST),
    Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
    Provoked("fail:too_large", ErrorKind.BAD_REQUEST),
    Provoked("fail:no_service", ErrorKind.BAD_REQUEST),
    Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
    Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
    Provoked("fail:credits", ErrorKind.QUOTA),
    Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=60.0),
    Provoked("fail:rate_limited_told", ErrorKind.RATE_LIMITED, retry_after=7.0),
    Provoked("fail:error500", ErrorKind.OVERLOADED),
    Provoked("fail:overloaded", ErrorKind.OVERLOADED),
    Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
)
_DRAWN = {"prompt": "a red fox", "negative_prompt": "blur", "seed": "7", "output_format": "png"}
_IMAGE = {"image": "png 64x64"}


class StabilityHarness(VendorHarness):
    fake_type = StabilityFake
    variant = ""
    stall = "stall"
    model = "sd3.5-large"
    size = (1344, 768)
    models: Mapping[str, str] = {
        "INPAINT": "inpaint",
        "OUTPAINT": "outpaint",
        "EDIT": "search-and-replace",
        "REMOVE_BACKGROUND": "remove-background",
        "UPSCALE": "fast",
        "CONTROL": "sketch",
    }
    changes: Mapping[str, Mapping[str, object]] = {
        "INPAINT": {"guidance": None, "strength": None},
        "OUTPAINT": {"guidance": None, "negative_prompt": "", "options": {"creativity": 0.4}},
        "EDIT": {"guidance": None, "options": {"search_prompt": "a dog", "grow_mask": 3}},
        "CONTROL": {"guidance": None, "width": 64, "height": 64, "options": {"style_preset": "anime"}},
    }
    failures = (
        *_FAILURES,
        Provoked("fail:filtered", ErrorKind.REFUSED),
        Provoked("fail:no_picture", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "resume": "Stability answers these services in the same call",
        "cancel": "Stability has no way to call off a request",
        "webhook": "Stability calls nobody",
    }

    def open(self) -> Provider:
        account = Account("stub", self.fake.origin, SecretStr(self.fake.key), self.variant)
        return Stability(account, self.http, Pace(0.01, 0.02))

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {
            **_DRAWN,
            "model": "sd3.5-large",
            "mode": "text-to-image",
            "aspect_ratio": "16:9",
            "cfg_scale": "4.5",
        }

    def expected(self, operation: str) -> Mapping[str, object]:
        drawn = {**_DRAWN, **_IMAGE}
        return {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": {
                **drawn,
                "model": "sd3.5-large",
                "mode": "image-to-image",
                "cfg_scale": "4.5",
                "strength": "0.6",
            },
            "INPAINT": {**drawn, "mask": "png 64x64"},
            "OUTPAINT": {
                **{name: value for name, value in drawn.items() if name != "negative_prompt"},
                "left": "32",
                "right": "32",
                "creativity": "0.4",
            },
            "EDIT": {**drawn, "search_prompt": "a dog", "grow_mask": "3"},
            "REMOVE_BACKGROUND": {**_IMAGE, "output_format": "png"},
            "UPSCALE": {**_IMAGE, "output_format": "png"},
            "CONTROL": {**drawn, "control_strength": "0.5", "style_preset": "anime"},
        }[operation]


class StabilityResultsHarness(StabilityHarness):
    variant = "results"
    model = "creative"
    models: Mapping[str, str] = {"EDIT": "replace-background-and-relight"}
    changes: Mapping[str, Mapping[str, object]] = {
        "EDIT": {"options": {"light_source_direction": "left", "keep_original_background": True}},
        "UPSCALE": {"options": {"creativity": 0.4}},
    }
    failures = (
        *_FAILURES,
        Provoked("late:filtered", ErrorKind.REFUSED),
        Provoked("late:moderation", ErrorKind.REFUSED),
        Provoked("late:lost", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("late:unauthorized", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("late:text", ErrorKind.BROKEN_ANSWER),
        Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
    )
    absent: Mapping[str, str] = {
        "cancel": "Stability has no way to call off a request",
        "webhook": "Stability calls nobody",
    }

    @property
    def expected_fields(self) -> Mapping[str, object]:
        raise NotImplementedError

    def expected(self, operation: str) -> Mapping[str, object]:
        if operation == "UPSCALE":
            return {"prompt": "a red fox", **_IMAGE, "output_format": "png", "creativity": "0.4"}
        return {
            **{name: value for name, value in _DRAWN.items() if name != "prompt"},
            "background_prompt": "a red fox",
            "subject_image": "png 64x64",
            "light_source_direction": "left",
            "keep_original_background": "true",
        }
