"""The OpenAI family in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.http import PooledHttpClient
from services.router.providers.openai import OpenAIImages
from tests.router.fakes.openai import OpenAIStub
from tests.router.providers.harness_base import Harness, Provoked

_HTTP_FAILURES = (
    Provoked("fail:moderation", ErrorKind.REFUSED),
    Provoked("fail:policy", ErrorKind.REFUSED),
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
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=0.2),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:no_data", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:url_expired", ErrorKind.BROKEN_ANSWER),
)


class OpenAIHarness(Harness):
    failures = _HTTP_FAILURES
    stall = "fail:silent"
    variant = ""
    absent: Mapping[str, str] = {
        "resume": "the images API answers in the same call",
        "cancel": "the images API has no way to call off a request",
        "webhook": "the images API calls nobody",
    }

    def __init__(self) -> None:
        self._stub = OpenAIStub()
        self._http = PooledHttpClient()

    async def start(self) -> Provider:
        await self._stub.start()
        account = Account("stub", self._stub.base_url, SecretStr("sk-stub"), self.variant)
        return OpenAIImages(account, self._http)

    async def stop(self) -> None:
        await self._http.close()
        await self._stub.stop()

    async def stop_fake(self) -> None:
        await self._stub.stop()

    async def until_asked(self, prompt: str) -> None:
        await self._stub.until_asked(prompt)

    def times_asked(self, prompt: str) -> int:
        return self._stub.posts[prompt]

    def fields_sent(self) -> Mapping[str, object]:
        return self._stub.bodies[-1]

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


class GptImageHarness(OpenAIHarness):
    variant = "gpt-image"
    model = "gpt-image-2"
    fields: Mapping[str, object] = {"quality": "high"}

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
            "safety_identifier": "user-1",
        }


class DallEHarness(OpenAIHarness):
    variant = "dall-e"
    model = "dall-e-3"
    fields: Mapping[str, object] = {"quality": "hd"}

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {
            "model": self.model,
            "prompt": "a red fox",
            "n": 1,
            "size": "512x256",
            "quality": "hd",
            "response_format": "b64_json",
            "user": "user-1",
        }
