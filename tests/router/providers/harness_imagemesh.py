"""The mesh's own engine in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.channel import ChannelConfig, open_channel
from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.imagemesh import OwnEngine
from tests.router.fakes.inference import FakeInference
from tests.router.providers.harness_base import Harness, Provoked


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
