"""NVIDIA's NIM in the contract suite: a container, one that edits, and the hosted preview."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, ControlImage, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind
from services.router.providers.nim import Nim
from tests.router.fakes.nim import NimFake
from tests.router.providers.harness_base import SILENT, SOURCE, Provoked, VendorHarness

KONTEXT = "flux.1-kontext-dev"
PICTURE = "png 64x64"


class NimHarness(VendorHarness):
    """A container of FLUX.1-dev; for EDIT, one of Kontext in its place."""

    fake_type = NimFake
    fake: NimFake
    variant = ""
    model = "flux.1-dev"
    models: Mapping[str, str] = {"EDIT": KONTEXT}
    size = (1024, 768)
    changes: Mapping[str, Mapping[str, object]] = {
        "CONTROL": {"controls": (ControlImage("canny", SOURCE),)},
        "EDIT": {"steps": 20},
    }
    stall = "stall"
    failures = (
        Provoked("fail:filtered", ErrorKind.REFUSED),
        Provoked("fail:unknown_reason", ErrorKind.REFUSED),
        Provoked("fail:error_reason", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
        Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
        Provoked("fail:credits", ErrorKind.QUOTA),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:error500", ErrorKind.OVERLOADED),
        Provoked("fail:not_ready", ErrorKind.OVERLOADED),
        Provoked("fail:pending", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_artifacts", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_reason", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "resume": "NIM answers in the same call, and orders have no id to ask by",
        "cancel": "NIM has no way to call off a request",
        "webhook": "NIM calls nobody",
    }

    def open(self) -> Provider:
        return _AnyContainer(Account("stub", self.fake.origin), self)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"prompt": "a red fox", "seed": 7, "steps": 12, "cfg_scale": 4.5, "width": 1024, "height": 768}

    def expected(self, operation: str) -> Mapping[str, object]:
        edited = {"prompt": "a red fox", "seed": 7, "steps": 20, "cfg_scale": 4.5, "image": PICTURE}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "CONTROL": {**self.expected_fields, "mode": "canny", "image": PICTURE},
            "EDIT": {**edited, "aspect_ratio": "match_input_image"},
        }
        return own[operation]


class _AnyContainer(Nim):
    """The adapter, before a server on which the container of the call's model runs."""

    def __init__(self, account: Account, harness: NimHarness) -> None:
        super().__init__(account, harness.http)
        self._fake = harness.fake

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        self._fake.container = call.model
        return await super().submit(call, listener)


class HostedNimHarness(NimHarness):
    variant = "hosted"
    model = "black-forest-labs/flux.1-dev"

    def open(self) -> Provider:
        account = Account("stub", f"{self.fake.origin}/v1/genai", SecretStr(self.fake.key), "hosted")
        return Nim(account, self.http)
