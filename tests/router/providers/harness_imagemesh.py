"""The mesh's own engine in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping

from imagemesh.inference.v1 import inference_service_pb2
from imagemesh.inference.v1.inference_service_pb2 import LoraInput
from imagemesh.type.v1 import image_pb2

from mesh.channel import ChannelConfig, open_channel
from services.router.providers.base import Account, Lora, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.imagemesh import OwnEngine
from tests.router.fakes.inference import FakeInference
from tests.router.providers.harness_base import MASK, SILENT, SOURCE, Harness, Provoked

IMAGE = image_pb2.ImageSource(inline=SOURCE.data)
SIZED = {"width": 512, "height": 256}
OPERATIONS: Mapping[str, Mapping[str, object]] = {
    "TEXT_TO_IMAGE": {
        **SIZED,
        "loras": [LoraInput(lora_id="ink", scale=0.5)],
        "lane": inference_service_pb2.LANE_BATCH,
    },
    "IMAGE_TO_IMAGE": {"images": [IMAGE], "strength": 0.6000000238418579},
    "INPAINT": {
        "images": [IMAGE],
        "mask": image_pb2.ImageSource(inline=MASK.data),
        "strength": 0.6000000238418579,
    },
    "OUTPAINT": {
        "images": [IMAGE],
        "margins": inference_service_pb2.Margins(left=32, right=32),
        "strength": 1.0,
        "loras": [LoraInput(lora_id="ink", scale=0.5), LoraInput(lora_id="oil")],
    },
    "CONTROL": {**SIZED, "controls": [inference_service_pb2.ControlInput(kind="canny", image=IMAGE, scale=0.5)]},
    "UPSCALE": {"images": [IMAGE], "upscale_factor": 4, "strength": 0.25},
}
"""What is sent of an operation besides what all of them send; 0.6 is the nearest float."""
INK = Lora("ink", 0.5)


class OwnEngineHarness(Harness):
    fields: Mapping[str, object] = {"previews": True}
    changes: Mapping[str, Mapping[str, object]] = {
        "TEXT_TO_IMAGE": {"loras": (INK,), "batch": True},
        "OUTPAINT": {"strength": 1.0, "loras": (INK, Lora("oil"))},
        "UPSCALE": {"strength": 0.25, "seed": 7},
    }
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
        Provoked("stall", ErrorKind.TIMEOUT, timeout=SILENT),
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
        return {
            descriptor.name: list(value) if descriptor.is_repeated else value
            for descriptor, value in self.fake.requests[-1].ListFields()
        }

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return self.expected("TEXT_TO_IMAGE")

    def expected(self, operation: str) -> Mapping[str, object]:
        drawing = {"negative_prompt": "blur", "steps": 12, "guidance": 4.5, "scheduler": "ddim"}
        return {
            "request_id": "att_1",
            "model_id": self.model,
            "operation": operation.lower(),
            "prompt": "a red fox",
            "count": 1,
            "seed": 7,
            "previews": True,
            **({} if operation == "UPSCALE" else drawing),
            **OPERATIONS[operation],
        }
