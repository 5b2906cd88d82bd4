"""Ideogram in the contract suite: the current surface, and the older one that answers in the same call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.ideogram import Ideogram
from services.router.providers.polling import Pace
from services.router.providers.webhooks import CallBack
from tests.router.fakes.ideogram import IdeogramFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

_FAILURES = (
    Provoked("fail:unsafe_prompt", ErrorKind.REFUSED),
    Provoked("fail:unsafe_detail", ErrorKind.REFUSED),
    Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
    Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
    Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
    Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
    Provoked("fail:funds", ErrorKind.QUOTA),
    Provoked("fail:daily_limit", ErrorKind.QUOTA),
    Provoked("fail:inflight", ErrorKind.RATE_LIMITED),
    Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
    Provoked("fail:error500", ErrorKind.OVERLOADED),
    Provoked("fail:overloaded", ErrorKind.OVERLOADED),
    Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:empty", ErrorKind.BROKEN_ANSWER),
    Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
    Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
)
_DRAWN = {"prompt": "a red fox", "seed": "7"}
_IMAGE = {"image": "png 64x64"}
_ORDER = {"async": "true"}


class IdeogramHarness(VendorHarness):
    fake_type = IdeogramFake
    fake: IdeogramFake
    variant = ""
    stall = "stall"
    model = "ideogram-3"
    size = (1024, 1024)
    models: Mapping[str, str] = {
        "EDIT": "ideogram-4-5",
        "INPAINT": "ideogram-3",
        "OUTPAINT": "ideogram-3",
        "IMAGE_TO_IMAGE": "ideogram-4",
        "REMOVE_BACKGROUND": "ideogram-1",
        "UPSCALE": "topaz-standard-2",
    }
    fields: Mapping[str, object] = {"quality": "turbo"}
    changes: Mapping[str, Mapping[str, object]] = {
        "TEXT_TO_IMAGE": {"transparent_background": False},
        "EDIT": {"transparent_background": False, "negative_prompt": "", "quality": "low"},
        "INPAINT": {"transparent_background": False, "negative_prompt": "", "strength": None},
        "OUTPAINT": {"transparent_background": False, "negative_prompt": ""},
        "IMAGE_TO_IMAGE": {"transparent_background": False, "negative_prompt": "", "options": {"magic_prompt": "off"}},
    }
    failures = (
        *_FAILURES,
        Provoked("late:content_policy_violation", ErrorKind.REFUSED),
        Provoked("late:unsafe", ErrorKind.REFUSED),
        Provoked("late:internal_error", ErrorKind.OVERLOADED),
        Provoked("late:lost", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("late:empty", ErrorKind.BROKEN_ANSWER),
        Provoked("late:bad_json", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {"cancel": "Ideogram has no way to call off a generation"}

    def open(self) -> Provider:
        account = Account("stub", self.fake.origin, SecretStr(self.fake.key), self.variant)
        return Ideogram(account, self.http, Pace(0.01, 0.02))

    @property
    def expected_fields(self) -> Mapping[str, object]:
        drawn = {**_DRAWN, **_ORDER, "rendering_speed": "turbo"}
        return {**drawn, "resolution": "1024x1024", "negative_prompt": "blur"}

    def expected(self, operation: str) -> Mapping[str, object]:
        drawn = {**_DRAWN, **_ORDER, "rendering_speed": "turbo"}
        return {
            "TEXT_TO_IMAGE": self.expected_fields,
            "EDIT": {**_DRAWN, **_ORDER, **_IMAGE, "quality": "low", "mask": "png 64x64"},
            "INPAINT": {**drawn, **_IMAGE, "mask": "png 64x64"},
            "OUTPAINT": {**drawn, "image": "png 128x64", "mask": "png 128x64"},
            "IMAGE_TO_IMAGE": {
                **{name: value for name, value in drawn.items() if name != "seed"},
                **_IMAGE,
                "image_weight": "40",
                "magic_prompt": "off",
            },
            "REMOVE_BACKGROUND": {**_ORDER, **_IMAGE},
            "UPSCALE": {**_ORDER, **_IMAGE, "upscale_factor": "x8"},
        }[operation]

    async def call_backs(self, provider_request_id: str) -> tuple[CallBack, CallBack]:
        genuine = self.fake.call_back(provider_request_id)
        return genuine, replace(genuine, body=genuine.body + b" ")


class IdeogramV1Harness(IdeogramHarness):
    variant = "v1"
    model = "ideogram-v3"
    models: Mapping[str, str] = {}
    changes: Mapping[str, Mapping[str, object]] = {
        "INPAINT": {"negative_prompt": "", "strength": None},
        "OUTPAINT": {"negative_prompt": ""},
        "IMAGE_TO_IMAGE": {"options": {"style_type": "design"}},
    }
    failures = (*_FAILURES, Provoked("fail:unsafe", ErrorKind.REFUSED))
    absent: Mapping[str, str] = {
        **IdeogramHarness.absent,
        "resume": "version 1 answers in the same call",
        "webhook": "version 1 calls nobody",
    }

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**_DRAWN, "rendering_speed": "TURBO", "resolution": "1024x1024", "negative_prompt": "blur"}

    def expected(self, operation: str) -> Mapping[str, object]:
        drawn = {**_DRAWN, "rendering_speed": "TURBO"}
        return {
            "TEXT_TO_IMAGE": self.expected_fields,
            "INPAINT": {**drawn, **_IMAGE, "mask": "png 64x64"},
            "OUTPAINT": {**drawn, "image": "png 128x64", "mask": "png 128x64"},
            "IMAGE_TO_IMAGE": {
                **drawn,
                **_IMAGE,
                "negative_prompt": "blur",
                "image_weight": "40",
                "style_type": "DESIGN",
            },
        }[operation]
