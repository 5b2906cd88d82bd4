"""Azure AI Foundry in the contract suite: both surfaces of the GPT models, and FLUX."""

from __future__ import annotations

from collections.abc import Mapping

from services.router.providers.azure import AzureImages
from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.http import PooledHttpClient
from tests.router.fakes.azure import AzureStub
from tests.router.providers.harness_base import Provoked
from tests.router.providers.harness_openai import HTTP_FAILURES, GptImageHarness

_NOT_AZURE = {"fail:moderation", "fail:quota", "fail:billing", "fail:payment"}
_FAILURES = (
    *(failure for failure in HTTP_FAILURES if failure.prompt not in _NOT_AZURE),
    Provoked("fail:filter", ErrorKind.REFUSED),
    Provoked("fail:inner_filter", ErrorKind.REFUSED),
    Provoked("fail:filtered_picture", ErrorKind.REFUSED),
    Provoked("fail:empty_picture", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:no_deployment", ErrorKind.BAD_REQUEST),
)


class AzureHarness(GptImageHarness):
    """The surface v1."""

    stub_type = AzureStub
    failures = _FAILURES
    variant = ""
    model = "azure-image"
    user = "user"
    absent: Mapping[str, str] = {
        "quota": "Azure bills afterwards; an exhausted quota is a rate limit",
        "resume": "Azure's images API answers in the same call",
        "cancel": "Azure's images API has no way to call off a request",
        "webhook": "Azure's images API calls nobody",
    }

    def open(self, account: Account, http: PooledHttpClient) -> Provider:
        return AzureImages(account, http)

    def base_url(self) -> str:
        return self.stub.origin


class ClassicHarness(AzureHarness):
    """The deployment is in the path; the fake puts it where v1 has the model, and refuses a body that names one."""

    variant = "classic"


class FoundryFlux1Harness(AzureHarness):
    variant = "flux-1"
    model = "FLUX.1-Kontext-pro"
    fields: Mapping[str, object] = {}

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"model": self.model, "prompt": "a red fox", "n": 1, "size": "512x256", "output_format": "png"}

    def sources(self, operation: str) -> Mapping[str, object]:
        return {"image": "png 64x64"}


class FoundryFlux2Harness(AzureHarness):
    variant = "flux-2"
    model = "FLUX.2-pro"
    fields: Mapping[str, object] = {}

    @property
    def expected_fields(self) -> Mapping[str, object]:
        told = {"model": self.model, "prompt": "a red fox", "seed": 7, "output_format": "png"}
        return {**told, "width": 512, "height": 256}

    def expected(self, operation: str) -> Mapping[str, object]:
        if operation == "TEXT_TO_IMAGE":
            return self.expected_fields
        told = {"model": self.model, "prompt": "a red fox", "seed": 7, "output_format": "png"}
        return {**told, "input_image": "png 64x64"}
