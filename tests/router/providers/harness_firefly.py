"""Adobe Firefly in the contract suite: the services of version 3, and Image 5, which answers in another spelling."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, InputImage, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.firefly import Firefly
from services.router.providers.polling import Pace
from tests.router.fakes.firefly import CLIENT_SECRET, FireflyFake
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import Provoked, VendorHarness

LARGE = InputImage(draw(1024, 512), "image/png")
"""1024x1024, a size that is filled."""
_FAILURES = (
    Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
    Provoked("fail:validation", ErrorKind.BAD_REQUEST),
    Provoked("fail:too_large", ErrorKind.BAD_REQUEST),
    Provoked("fail:not_built", ErrorKind.BAD_REQUEST),
    Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
    Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
    Provoked("fail:quota", ErrorKind.QUOTA),
    Provoked("fail:unsafe_451", ErrorKind.REFUSED),
    Provoked("fail:bare_451", ErrorKind.REFUSED),
    Provoked("fail:unsafe_400", ErrorKind.REFUSED),
    Provoked("fail:unsafe_403", ErrorKind.REFUSED),
    Provoked("fail:unsafe_422", ErrorKind.REFUSED),
    Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
    Provoked("fail:rate_limited_bare", ErrorKind.RATE_LIMITED),
    Provoked("fail:error500", ErrorKind.OVERLOADED),
    Provoked("fail:overloaded", ErrorKind.OVERLOADED),
    Provoked("fail:timeout_error", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=1.0),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:no_id", ErrorKind.BROKEN_ANSWER),
    Provoked("late:failed", ErrorKind.OVERLOADED),
    Provoked("late:runtime", ErrorKind.OVERLOADED),
    Provoked("late:unsafe", ErrorKind.REFUSED),
    Provoked("late:input_unsafe", ErrorKind.REFUSED),
    Provoked("late:legal", ErrorKind.REFUSED),
    Provoked("late:unsafe_451", ErrorKind.REFUSED),
    Provoked("late:invalid", ErrorKind.BAD_REQUEST),
    Provoked("late:limited", ErrorKind.RATE_LIMITED),
    Provoked("late:timeout", ErrorKind.TIMEOUT),
    Provoked("late:canceled", ErrorKind.BROKEN_ANSWER),
    Provoked("late:cancelled", ErrorKind.BROKEN_ANSWER),
    Provoked("late:no_result", ErrorKind.BROKEN_ANSWER),
    Provoked("late:no_outputs", ErrorKind.BROKEN_ANSWER),
    Provoked("late:lost", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("late:forbidden", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("late:unauthorized", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=1.0),
    Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
    Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
)


def source(picture: str = "png 64x64") -> Mapping[str, object]:
    """A picture that was handed in."""
    return {"source": {"uploadId": picture}}


class FireflyHarness(VendorHarness):
    """The services of version 3."""

    fake_type = FireflyFake
    fake: FireflyFake
    variant = "v3"
    model = "image4_standard"
    models: Mapping[str, str] = {"INPAINT": "fill", "OUTPAINT": "expand", "UPSCALE": "precise_upsampler_v1"}
    size = (2304, 1792)
    stall = "stall"
    failures: tuple[Provoked, ...] = _FAILURES
    absent: Mapping[str, str] = {"webhook": "Firefly's API calls nobody"}
    changes: Mapping[str, Mapping[str, object]] = {
        "INPAINT": {"images": (LARGE,), "mask": LARGE},
        "OUTPAINT": {"negative_prompt": ""},
    }

    def open(self) -> Provider:
        account = Account(
            "stub",
            self.fake.origin,
            SecretStr(self.fake.key),
            self.variant,
            secrets={"client_secret": SecretStr(CLIENT_SECRET)},
            settings={"ims": self.fake.origin},
        )
        return Firefly(account, self.http, Pace(0.01, 0.02))

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**self._prompted, "size": {"width": 2304, "height": 1792}}

    _prompted: Mapping[str, object] = {"prompt": "a red fox", "negativePrompt": "blur", "seeds": [7]}

    def expected(self, operation: str) -> Mapping[str, object]:
        large = source("png 1024x1024")
        square = {"width": 1024, "height": 1024}
        inset = {"left": 32, "top": 0, "right": 32, "bottom": 0}
        return {
            "TEXT_TO_IMAGE": self.expected_fields,
            "CONTROL": {**self.expected_fields, "structure": {"imageReference": source(), "strength": 50}},
            "IMAGE_TO_IMAGE": {**self._prompted, "structure": {"imageReference": source()}},
            "INPAINT": {**self._prompted, "size": square, "image": large, "mask": large},
            "OUTPAINT": {
                "prompt": "a red fox",
                "seeds": [7],
                "size": {"width": 128, "height": 64},
                "image": source(),
                "placement": {"inset": inset},
            },
            "UPSCALE": {"image": source(), "seeds": [zlib.crc32(b"att_1") % 2**31], "upscaleFactor": 6},
        }[operation]


class FireflyImage5Harness(FireflyHarness):
    """Image 5, which version 4 of the API serves."""

    variant = "image5"
    model = "image5"
    models: Mapping[str, str] = {}
    size = (2048, 2048)
    changes: Mapping[str, Mapping[str, object]] = {}

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"prompt": "a red fox", "seeds": [7], "aspectRatio": "1:1", "resolutionLevel": "4MP"}

    def expected(self, operation: str) -> Mapping[str, object]:
        blob = {"source": {"uploadId": "png 64x64"}, "usage": "general"}
        edit = {"prompt": "a red fox", "seeds": [7], "referenceBlobs": [blob]}
        return self.expected_fields if operation == "TEXT_TO_IMAGE" else edit
