"""The mesh's own GPUs as one more provider: the inference service behind `imagemesh.inference.v1`.

Drawing again costs nobody twice and gives the same picture, so it is replay-safe. Leaving the call frees the engine
before its next step.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

import grpc.aio
from imagemesh.inference.v1 import generation_pb2, inference_service_pb2, inference_service_pb2_grpc
from imagemesh.type.v1 import image_pb2

from mesh.channel import as_tenant
from mesh.errors import Code, MeshError
from mesh.status import peer_errors
from services.router.providers.base import (
    Account,
    Capabilities,
    ControlImage,
    InputImage,
    Listener,
    Margins,
    Provider,
    ProviderCall,
    ProviderImage,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.media import media_type_of

THREAD_BYTES = 256 * 1024
"""Pictures above this are hashed in a thread."""

CHECK_SECONDS = 5.0

KINDS: Mapping[Code, ErrorKind] = {
    Code.INVALID_ARGUMENT: ErrorKind.BAD_REQUEST,
    Code.NOT_FOUND: ErrorKind.BAD_REQUEST,
    Code.UNIMPLEMENTED: ErrorKind.BAD_REQUEST,
    Code.ALREADY_EXISTS: ErrorKind.BAD_REQUEST,
    Code.UNAUTHENTICATED: ErrorKind.AUTHENTICATION,
    Code.PERMISSION_DENIED: ErrorKind.AUTHENTICATION,
    Code.RESOURCE_EXHAUSTED: ErrorKind.RATE_LIMITED,
    Code.UNAVAILABLE: ErrorKind.UNREACHABLE,
    Code.FAILED_PRECONDITION: ErrorKind.OVERLOADED,
    Code.ABORTED: ErrorKind.OVERLOADED,
    Code.INTERNAL: ErrorKind.OVERLOADED,
    Code.DEADLINE_EXCEEDED: ErrorKind.TIMEOUT,
    Code.CANCELED: ErrorKind.UNKNOWN_OUTCOME,
    Code.DATA_LOSS: ErrorKind.BROKEN_ANSWER,
}
"""What a failed call means. UNAVAILABLE, also from within a stream, counts as unreachable: a repeat harms nobody."""


CAPABILITIES = Capabilities(
    frozenset({"TEXT_TO_IMAGE", "IMAGE_TO_IMAGE", "INPAINT", "OUTPAINT", "CONTROL", "UPSCALE"}),
    max_count=8,
    seed=True,
    negative_prompt=True,
    steps=True,
    guidance=True,
    scheduler=True,
    strength=True,
    max_images=1,
    controls=frozenset({"canny", "depth", "edges", "layout", "pose", "sketch", "structure", "style"}),
    loras=True,
    upscale_factors=(2, 3, 4),
    replay_safe=True,
    progress=True,
    previews=True,
)
"""What the contract has room for. `own_models` compares each route with what its model really can do."""


def capabilities(_variant: str) -> Capabilities:
    """What the service can do; it has no variants."""
    return CAPABILITIES


class OwnEngine(Provider):
    """The adapter."""

    def __init__(self, account: Account, channel: grpc.aio.Channel) -> None:
        self.name = account.provider
        self._stub = inference_service_pb2_grpc.InferenceServiceStub(channel)

    @property
    def capabilities(self) -> Capabilities:
        """Bounds of the service; each model's own are in the catalog."""
        return CAPABILITIES

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """Follow the stream to its summary."""
        call.before_sending()
        with _translated():
            stream = self._stub.Generate(_request(call), timeout=call.timeout, metadata=as_tenant(call.tenant))
            try:
                return await _collect(call, aiter(stream), listener)
            finally:
                stream.cancel()

    async def check(self) -> str:
        """How busy the engine is."""
        with _translated():
            told = await self._stub.GetCapacity(inference_service_pb2.GetCapacityRequest(), timeout=CHECK_SECONDS)
        return f"{len(told.models)} models loaded, {told.running} of {told.slots} slots busy, {told.waiting} waiting"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with peer_errors("inference"):
            yield
    except MeshError as error:
        kind = KINDS.get(error.code, ErrorKind.OVERLOADED)
        raise ProviderError(kind, error.message, retry_after=error.retry_after) from error


def _request(call: ProviderCall) -> inference_service_pb2.GenerateRequest:
    return inference_service_pb2.GenerateRequest(
        request_id=call.attempt_id,
        model_id=call.model,
        model_version=call.model_version,
        operation=call.operation.lower(),
        prompt=call.prompt,
        negative_prompt=call.negative_prompt,
        width=call.width,
        height=call.height,
        count=call.count,
        seed=call.seed,
        steps=call.steps,
        guidance=call.guidance,
        scheduler=call.scheduler,
        strength=call.strength,
        images=[_source(image) for image in call.images],
        mask=None if call.mask is None else _source(call.mask),
        controls=[_control(control) for control in call.controls],
        loras=[inference_service_pb2.LoraInput(lora_id=lora.lora_id, scale=lora.scale) for lora in call.loras],
        previews=call.previews,
        margins=_margins(call.margins) if call.operation == "OUTPAINT" else None,
        upscale_factor=call.upscale_factor,
        lane=inference_service_pb2.LANE_BATCH if call.batch else inference_service_pb2.LANE_UNSPECIFIED,
    )


def _source(image: InputImage) -> image_pb2.ImageSource:
    return image_pb2.ImageSource(inline=image.data)


def _control(control: ControlImage) -> inference_service_pb2.ControlInput:
    return inference_service_pb2.ControlInput(kind=control.kind, image=_source(control.image), scale=control.scale)


def _margins(at: Margins) -> inference_service_pb2.Margins:
    return inference_service_pb2.Margins(left=at.left, top=at.top, right=at.right, bottom=at.bottom)


async def _collect(
    call: ProviderCall,
    stream: AsyncIterator[inference_service_pb2.GenerateResponse],
    listener: Listener,
) -> ProviderResult:
    pictures: dict[int, _Picture] = {}
    summary: generation_pb2.Summary | None = None
    async for event in stream:
        which = event.WhichOneof("event")
        if which == "progress":
            listener.progress(event.progress.step, event.progress.steps)
        elif which == "preview":
            listener.preview(event.preview.data, event.preview.media_type)
        elif which == "chunk":
            pictures.setdefault(event.chunk.index, _Picture()).add(event.chunk)
        elif which == "summary":
            summary = event.summary
    if summary is None:
        raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, "the engine's stream ended early")
    return await _result(call, summary, pictures)


class _Picture:
    """A picture being put together."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._sha256: str | None = None

    def add(self, chunk: image_pb2.Chunk) -> None:
        if chunk.offset != len(self._data) or self._sha256 is not None:
            raise ProviderError(ErrorKind.BROKEN_ANSWER, "a picture's pieces are out of order")
        self._data += chunk.data
        if chunk.last:
            self._sha256 = chunk.sha256

    async def whole(self) -> bytes:
        data = bytes(self._data)
        if len(data) > THREAD_BYTES:
            digest = await asyncio.to_thread(hashlib.sha256, data)
        else:
            digest = hashlib.sha256(data)
        if digest.hexdigest() != self._sha256:
            raise ProviderError(ErrorKind.BROKEN_ANSWER, "a picture did not arrive whole")
        return data


async def _result(
    call: ProviderCall, summary: generation_pb2.Summary, pictures: Mapping[int, _Picture]
) -> ProviderResult:
    images = []
    for index, described in enumerate(summary.images[: call.count]):
        if index not in pictures:
            raise ProviderError(ErrorKind.BROKEN_ANSWER, "a picture is missing")
        data = await pictures[index].whole()
        images.append(ProviderImage(data, media_type_of(data) or described.media_type, seed=described.seed))
    if not images:
        raise ProviderError(ErrorKind.BROKEN_ANSWER, "no picture came")
    return ProviderResult(
        tuple(images),
        provider_request_id=call.attempt_id,
        model_version=summary.model_version,
        usage={"milliseconds": math.ceil(summary.gpu_seconds * 1000), "steps": summary.steps},
    )
