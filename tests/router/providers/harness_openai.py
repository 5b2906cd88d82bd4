"""The OpenAI family in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.http import PooledHttpClient
from services.router.providers.openai import OpenAIImages
from tests.router.fakes.openai import OpenAIStub
from tests.router.providers.harness_base import SILENT, Harness, Provoked

HTTP_FAILURES = (
    Provoked("fail:moderation", ErrorKind.REFUSED),
    Provoked("fail:policy", ErrorKind.REFUSED),
    Provoked("fail:late_error", ErrorKind.REFUSED),
    Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
    Provoked("fail:unprocessable", ErrorKind.BAD_REQUEST),
    Provoked("fail:too_large", ErrorKind.BAD_REQUEST),
    Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
    Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
    Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
    Provoked("fail:payment", ErrorKind.QUOTA),
    Provoked("fail:quota", ErrorKind.QUOTA),
    Provoked("fail:billing", ErrorKind.QUOTA),
    Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
    Provoked("fail:rate_limited_ms", ErrorKind.RATE_LIMITED, retry_after=1.5),
    Provoked("fail:rate_limited_bare", ErrorKind.RATE_LIMITED),
    Provoked("fail:error500", ErrorKind.OVERLOADED),
    Provoked("fail:overloaded", ErrorKind.OVERLOADED),
    Provoked("fail:site_overloaded", ErrorKind.OVERLOADED),
    Provoked("fail:request_timeout", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:gateway_timeout", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:redirect", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:no_data", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:url_expired", ErrorKind.BROKEN_ANSWER),
)


_STREAM_FAILURES = (
    Provoked("fail:stream_refused", ErrorKind.REFUSED),
    Provoked("fail:stream_error", ErrorKind.OVERLOADED),
    Provoked("fail:stream_odd", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:stream_broken", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:stream_cut", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:stream_ends", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:stream_stall", ErrorKind.UNKNOWN_OUTCOME),
)
SETTINGS = {"partial_images": "2", "stream_idle_s": "1"}


class OpenAIHarness(Harness):
    failures: tuple[Provoked, ...] = HTTP_FAILURES
    stall = "fail:silent"
    kind = "openai"
    variant = ""
    settings: Mapping[str, str] = {}
    stub_type: type[OpenAIStub] = OpenAIStub
    absent: Mapping[str, str] = {
        "resume": "the images API answers in the same call",
        "cancel": "the images API has no way to call off a request",
        "webhook": "the images API calls nobody",
    }

    def __init__(self) -> None:
        self.stub = self.stub_type()
        self._http = PooledHttpClient()

    async def start(self) -> Provider:
        await self.stub.start()
        account = Account("stub", self.base_url(), SecretStr("sk-stub"), self.variant, settings=self.settings)
        return self.open(account, self._http)

    def base_url(self) -> str:
        return self.stub.base_url

    def open(self, account: Account, http: PooledHttpClient) -> Provider:
        return OpenAIImages(account, http)

    async def stop(self) -> None:
        await self._http.close()
        await self.stub.stop()

    async def stop_fake(self) -> None:
        await self.stub.stop()

    async def until_asked(self, prompt: str) -> None:
        await self.stub.until_asked(prompt)

    def times_asked(self, prompt: str) -> int:
        return self.stub.posts[prompt]

    def fields_sent(self) -> Mapping[str, object]:
        return self.stub.bodies[-1]

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "prompt": "a red fox",
            "n": 1,
            "size": "512x256",
            "response_format": "b64_json",
            "seed": 7,
            "num_inference_steps": 12,
            "guidance_scale": 4.5,
            "negative_prompt": "blur",
            "output_format": "png",
        }

    def expected(self, operation: str) -> Mapping[str, object]:
        fields = self.expected_fields
        if operation == "TEXT_TO_IMAGE":
            return fields
        return {**{name: value for name, value in fields.items() if name != "size"}, **self.sources(operation)}

    def sources(self, operation: str) -> Mapping[str, object]:
        """What an operation on pictures adds, and changes."""
        return {"image": "png 64x64"}


class SglangHarness(OpenAIHarness):
    variant = "sglang"
    model = "sglang-model"
    fields: Mapping[str, object] = {
        "compression": 80,
        "options": {"true_cfg_scale": 3.5, "enable_teacache": True},
    }

    @property
    def expected_fields(self) -> Mapping[str, object]:
        added = {"output_compression": 80, "true_cfg_scale": 3.5, "enable_teacache": True}
        return {**super().expected_fields, **added}


class VllmOmniHarness(OpenAIHarness):
    variant = "vllm-omni"
    model = "omni-model"
    fields: Mapping[str, object] = {"options": {"flow_shift": 3.0}}

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**super().expected_fields, "flow_shift": 3.0}

    def sources(self, operation: str) -> Mapping[str, object]:
        mask = {} if operation == "IMAGE_TO_IMAGE" else {"mask_image": "png 64x64"}
        strength = {} if operation == "EDIT" else {"strength": 0.6}
        return {"image": "png 64x64", **mask, **strength}


class LocalAIHarness(OpenAIHarness):
    variant = "localai"
    model = "localai-model"

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "prompt": "a red fox|blur",
            "n": 1,
            "size": "512x256",
            "step": 12,
            "response_format": "b64_json",
        }

    def expected(self, operation: str) -> Mapping[str, object]:
        if operation == "UPSCALE":
            return {"model": self.model, "image": "png 64x64", "scale": 4}
        if operation == "INPAINT":
            told = {"model": self.model, "prompt": "a red fox|blur", "steps": 12}
            return {**told, "image": "png 64x64", "mask": "png 64x64"}
        return super().expected(operation)

    def sources(self, operation: str) -> Mapping[str, object]:
        return {"file": "png 64x64"} if operation == "IMAGE_TO_IMAGE" else {"ref_images": ["png 64x64"]}

    def times_asked(self, prompt: str) -> int:
        return self.stub.posts[prompt] + self.stub.posts[f"{prompt}|blur"]

    async def until_asked(self, prompt: str) -> None:
        await self.stub.until_asked(f"{prompt}|blur")


class GptImageHarness(OpenAIHarness):
    variant = "gpt-image"
    model = "gpt-image-2"
    fields: Mapping[str, object] = {"quality": "high"}
    user = "safety_identifier"

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "prompt": "a red fox",
            "n": 1,
            "size": "512x256",
            "quality": "high",
            "output_format": "png",
            "background": "transparent",
            self.user: "user-1",
        }

    def sources(self, operation: str) -> Mapping[str, object]:
        if operation == "OUTPAINT":
            return {"image[]": "png 128x64", "mask": "png 128x64", "size": "128x64"}
        return {"image[]": "png 64x64", **({} if operation == "IMAGE_TO_IMAGE" else {"mask": "png 64x64"})}


class StreamedHarness(GptImageHarness):
    failures = (*HTTP_FAILURES, *_STREAM_FAILURES)
    settings = SETTINGS

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**super().expected_fields, "stream": True, "partial_images": 2}
