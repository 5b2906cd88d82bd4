"""Black Forest Labs in the contract suite: each family of models that is asked in its own way."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.bfl import Bfl
from services.router.providers.errors import ErrorKind
from services.router.providers.polling import Pace
from services.router.providers.webhooks import CallBack
from tests.router.fakes.bfl import BflFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

_FAILURES = (
    Provoked("late:moderated_request", ErrorKind.REFUSED),
    Provoked("late:moderated_content", ErrorKind.REFUSED),
    Provoked("late:error", ErrorKind.OVERLOADED),
    Provoked("late:failed", ErrorKind.OVERLOADED),
    Provoked("late:lost", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("late:forbidden", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("late:no_result", ErrorKind.BROKEN_ANSWER),
    Provoked("late:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
    Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
    Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
    Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
    Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
    Provoked("fail:credits", ErrorKind.QUOTA),
    Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
    Provoked("fail:rate_limited_bare", ErrorKind.RATE_LIMITED),
    Provoked("fail:error500", ErrorKind.OVERLOADED),
    Provoked("fail:overloaded", ErrorKind.OVERLOADED),
    Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
    Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:no_id", ErrorKind.BROKEN_ANSWER),
    Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
    Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
)
_EACH = frozenset(
    {
        "late:moderated_request",
        "late:error",
        "late:no_result",
        "fail:unprocessable",
        "fail:forbidden",
        "fail:credits",
        "fail:rate_limited",
    }
)
"""One of each class, shown for every family; all of them are shown once."""
_DRAWN = {"prompt": "a red fox", "seed": 7, "output_format": "png"}
_TUNED = {**_DRAWN, "steps": 12, "guidance": 4.5}


class BflHarness(VendorHarness):
    """All families at once, as the catalog opens it: FLUX.2 pro draws and edits, the 1.0 tools fill and expand."""

    fake_type = BflFake
    fake: BflFake
    variant = ""
    stall = "stall"
    failures = _FAILURES
    absent: Mapping[str, str] = {"cancel": "Black Forest Labs has no way to call off a task"}
    model = "flux-2-flex"
    models: Mapping[str, str] = {"INPAINT": "flux-pro-1.0-fill", "OUTPAINT": "flux-pro-1.0-expand"}
    changes: Mapping[str, Mapping[str, object]] = {"INPAINT": {"steps": 20}, "OUTPAINT": {"steps": 20}}

    def open(self) -> Provider:
        account = Account("stub", self.fake.origin, SecretStr(self.fake.key), self.variant)
        return Bfl(account, self.http, Pace(0.01, 0.02))

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**_TUNED, "width": 512, "height": 256}

    def expected(self, operation: str) -> Mapping[str, object]:
        image = {"image": "png 64x64"}
        return {
            "TEXT_TO_IMAGE": self.expected_fields,
            "EDIT": {**_TUNED, "input_image": "png 64x64"},
            "INPAINT": {**_TUNED, "steps": 20, **image, "mask": "png 64x64"},
            "OUTPAINT": {**_TUNED, "steps": 20, **image, "top": 0, "bottom": 0, "left": 32, "right": 32},
        }[operation]

    async def call_backs(self, provider_request_id: str) -> tuple[CallBack, CallBack]:
        body = self.fake.call_back(provider_request_id)
        secret = str(self.fake.jobs[provider_request_id].fields["webhook_secret"]).encode()
        signed = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        forged = "sha256=" + hmac.new(b"guessed", body, hashlib.sha256).hexdigest()
        return CallBack({"x-bfl-signature": signed}, body), CallBack({"x-bfl-signature": forged}, body)


class Flux2Harness(BflHarness):
    variant = "flux-2"
    model = "flux-2-pro"
    failures = tuple(failure for failure in _FAILURES if failure.prompt in _EACH)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**_DRAWN, "width": 512, "height": 256}

    def expected(self, operation: str) -> Mapping[str, object]:
        return self.expected_fields if operation == "TEXT_TO_IMAGE" else {**_DRAWN, "input_image": "png 64x64"}


class KontextHarness(Flux2Harness):
    variant = "flux-kontext"
    model = "flux-kontext-pro"
    size = (1024, 1024)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**_DRAWN, "aspect_ratio": "1:1"}


class UltraHarness(KontextHarness):
    variant = "flux-pro-1.1-ultra"
    model = "flux-pro-1.1-ultra"


class Flux11Harness(Flux2Harness):
    variant = "flux-pro-1.1"
    model = "flux-pro-1.1"


class Flux3Harness(Flux2Harness):
    variant = "flux-3-image"
    model = "flux-3-image"
    size = (2720, 1536)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"prompt": "a red fox", "aspect_ratio": "16:9", "resolution": "2k"}

    def expected(self, operation: str) -> Mapping[str, object]:
        if operation == "TEXT_TO_IMAGE":
            return self.expected_fields
        return {"prompt": "a red fox", "images": ["png 64x64"]}
