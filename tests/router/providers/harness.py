"""What the contract suite knows of each adapter: how to stand up its vendor's fake and how to provoke each scenario.

A new provider adds one `Harness` to `HARNESSES`. A scenario it cannot show is a reason, never an absence.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from mesh.channel import ChannelConfig, open_channel
from services.router.providers.base import Account, Capabilities, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.http import PooledHttpClient
from services.router.providers.imagemesh import OwnEngine
from services.router.providers.openai import OpenAIImages
from tests.router.fakes.inference import FakeInference
from tests.router.fakes.openai import OpenAIStub


@dataclass(frozen=True)
class Provoked:
    """A prompt that makes the fake fail, and the class that must come of it."""

    prompt: str
    kind: ErrorKind
    retry_after: float | None = None
    timeout: float = 20.0


@dataclass
class Heard:
    """A listener that remembers."""

    ids: list[str] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    call_back: asyncio.Event = field(default_factory=asyncio.Event)

    async def accepted(self, provider_request_id: str) -> None:
        self.ids.append(provider_request_id)

    def progress(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))

    def preview(self, data: bytes, media_type: str) -> None:
        self.previews.append(data)

    async def woken(self) -> None:
        await self.call_back.wait()
        self.call_back.clear()


class Harness(ABC):
    """One adapter against its vendor's fake."""

    model = "model-1"
    failures: tuple[Provoked, ...] = ()
    stall = ""
    """A prompt that is never answered."""
    absent: Mapping[str, str] = {}
    """Scenarios that the vendor does not have, with the reason."""

    @abstractmethod
    async def start(self) -> Provider:
        """Start the fake; the adapter that talks to it."""

    @abstractmethod
    async def stop_fake(self) -> None:
        """Stop the fake alone; nobody listens any more."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop both."""

    @abstractmethod
    async def until_asked(self, prompt: str) -> None:
        """Wait until the fake has the request."""

    @abstractmethod
    def times_asked(self, prompt: str) -> int:
        """How often the fake was asked to draw this."""

    @abstractmethod
    def fields_sent(self) -> Mapping[str, object]:
        """The last request, as the fake read it."""

    @property
    @abstractmethod
    def expected_fields(self) -> Mapping[str, object]:
        """What a call with every supported field must put on the wire."""


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


class OwnEngineHarness(Harness):
    stall = "stall"
    failures = (
        Provoked("fail:INVALID_ARGUMENT", ErrorKind.BAD_REQUEST),
        Provoked("fail:NOT_FOUND", ErrorKind.BAD_REQUEST),
        Provoked("fail:UNIMPLEMENTED", ErrorKind.BAD_REQUEST),
        Provoked("fail:UNAUTHENTICATED", ErrorKind.AUTHENTICATION),
        Provoked("fail:PERMISSION_DENIED", ErrorKind.AUTHENTICATION),
        Provoked("fail:RESOURCE_EXHAUSTED", ErrorKind.RATE_LIMITED),
        Provoked("fail:UNAVAILABLE", ErrorKind.UNREACHABLE),
        Provoked("fail:FAILED_PRECONDITION", ErrorKind.OVERLOADED),
        Provoked("fail:INTERNAL", ErrorKind.OVERLOADED),
        Provoked("fail:ABORTED", ErrorKind.OVERLOADED),
        Provoked("fail:DEADLINE_EXCEEDED", ErrorKind.TIMEOUT),
        Provoked("stall", ErrorKind.TIMEOUT, timeout=0.2),
        Provoked("fail:DATA_LOSS", ErrorKind.BROKEN_ANSWER),
        Provoked("cut", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("torn", ErrorKind.BROKEN_ANSWER),
        Provoked("wrong_hash", ErrorKind.BROKEN_ANSWER),
        Provoked("nothing", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "refusal": "the engine does not judge; moderation does",
        "quota": "nobody bills the own engine",
        "resume": "replay-safe: drawn again instead",
        "cancel": "leaving the call is the cancel",
        "webhook": "the stream tells the end",
    }

    def __init__(self) -> None:
        self.fake = FakeInference()  # type: ignore[abstract]

    async def start(self) -> Provider:
        await self.fake.start()
        self._channel = open_channel(ChannelConfig(self.fake.target, timeout=None))
        return OwnEngine(Account("imagemesh"), self._channel)

    async def stop(self) -> None:
        await self._channel.close()
        await self.fake.stop()

    async def stop_fake(self) -> None:
        await self.fake.stop()

    async def until_asked(self, prompt: str) -> None:
        await self.fake.until_asked(prompt)

    def times_asked(self, prompt: str) -> int:
        return self.fake.posts[prompt]

    def fields_sent(self) -> Mapping[str, object]:
        return {descriptor.name: value for descriptor, value in self.fake.requests[-1].ListFields()}

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {
            "request_id": "att_1",
            "model_id": self.model,
            "operation": "text_to_image",
            "prompt": "a red fox",
            "negative_prompt": "blur",
            "width": 512,
            "height": 256,
            "count": 1,
            "seed": 7,
            "steps": 12,
            "guidance": 4.5,
            "scheduler": "ddim",
        }


HARNESSES: Mapping[str, type[Harness]] = {
    "imagemesh": OwnEngineHarness,
    "openai-compatible": OpenAIHarness,
    "openai-gpt-image": GptImageHarness,
    "openai-dall-e": DallEHarness,
}

__all__ = ["HARNESSES", "Capabilities", "Harness", "Heard", "Provoked"]
