"""Protobuf ↔ the engine's values, and the validation table of `GenerateRequest`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money
from imagemesh.inference.v1 import generation_pb2, inference_service_pb2, model_pb2
from imagemesh.type.v1 import image_pb2

from mesh.errors import FieldViolation, Unimplemented, invalid
from mesh.validation import Rule, between, check, length, refuse, refuse_set
from services.inference.catalog import OwnModel
from services.inference.engine.facts import Fact, Finished, Picture, Preview, Progress, Stage
from services.inference.engine.manifest import Manifest
from services.inference.engine.request import DrawRequest, Wanted
from services.inference.engines.base import Busy, State, Status

CHUNK_BYTES = 1024 * 1024
PNG = "image/png"
TEXT_TO_IMAGE = "text_to_image"
LATER_OPERATIONS = ("image_to_image", "inpaint", "outpaint", "control", "edit", "upscale", "remove_background")


def _zero_or(low: int, high: int) -> Callable[[int], bool]:
    return lambda value: value == 0 or low <= value <= high


GENERATE_RULES = (
    Rule("request_id", length(0, 128), "must be at most 128 characters"),
    Rule("model_id", length(1, 64), "must name a model"),
    Rule("prompt", length(1, 32_000), "must be 1 to 32,000 characters"),
    Rule("negative_prompt", length(0, 32_000), "must be at most 32,000 characters"),
    Rule("width", _zero_or(16, 8192), "must be 16 to 8192 pixels, or 0 for the model's default"),
    Rule("height", _zero_or(16, 8192), "must be 16 to 8192 pixels, or 0 for the model's default"),
    Rule("count", between(0, 8), "must be 1 to 8, or 0 for 1"),
    Rule("steps", between(1, 150), "must be 1 to 150, or unset for the model's default"),
    Rule("guidance", between(0, 30), "must be 0 to 30, or unset for the model's default"),
)
GENERATE_LATER = {
    "strength": "leave it unset",
    "images": "only text to image is served for now",
    "mask": "only text to image is served for now",
    "controls": "leave it empty",
    "loras": "leave it empty",
    "previews": "leave it false",
}


def wanted(request: inference_service_pb2.GenerateRequest, request_id: str) -> Wanted:
    """The request as the engine understands it; `request_id` is used when the caller gives none."""
    check(request, GENERATE_RULES)
    refuse_set(request, GENERATE_LATER)
    _check_operation(request.operation)
    if bool(request.width) != bool(request.height):
        fix = "give both width and height, or neither"
        refuse((FieldViolation("width", fix), FieldViolation("height", fix)))
    return Wanted(
        model_id=request.model_id,
        prompt=request.prompt,
        request_id=request.request_id or request_id,
        negative_prompt=request.negative_prompt,
        operation=request.operation or TEXT_TO_IMAGE,
        width=request.width or None,
        height=request.height or None,
        count=request.count or 1,
        seed=request.seed if request.HasField("seed") else None,
        steps=request.steps if request.HasField("steps") else None,
        guidance=request.guidance if request.HasField("guidance") else None,
        scheduler=request.scheduler,
    )


def _check_operation(operation: str) -> None:
    if operation in LATER_OPERATIONS:
        fix = f"use {TEXT_TO_IMAGE}"
        text = f"operation {operation} belongs to a later version of imagemesh: {fix}"
        raise Unimplemented(text, violations=(FieldViolation("operation", fix),), metadata={"field": "operation"})
    if operation not in ("", TEXT_TO_IMAGE):
        raise invalid("operation", f"must be {TEXT_TO_IMAGE}, or empty for it")


class Answer:
    """Turns the facts of one drawing into messages, and keeps what the summary needs."""

    def __init__(self, request: DrawRequest, model_version: str) -> None:
        self._request = request
        self._model_version = model_version
        self._images: list[generation_pb2.GeneratedImage] = []

    def messages(self, fact: Fact) -> Iterator[inference_service_pb2.GenerateResponse]:
        """The messages that tell `fact`."""
        if isinstance(fact, Progress):
            progress = generation_pb2.Progress(step=fact.step, steps=fact.steps)
            yield inference_service_pb2.GenerateResponse(progress=progress)
        elif isinstance(fact, Picture):
            image = _image(fact)
            self._images.append(image)
            for chunk in _chunks(fact, image.sha256):
                yield inference_service_pb2.GenerateResponse(chunk=chunk)
        elif isinstance(fact, Preview):
            preview = generation_pb2.Preview(
                image_index=fact.index, step=fact.step, data=fact.data, media_type=fact.media_type
            )
            yield inference_service_pb2.GenerateResponse(preview=preview)
        else:
            yield inference_service_pb2.GenerateResponse(summary=self._summary(fact))

    def _summary(self, finished: Finished) -> generation_pb2.Summary:
        queue, *rest = finished.stages or (Stage("", 0, 0, {}),)
        last = rest[-1] if rest else queue
        return generation_pb2.Summary(
            images=self._images,
            steps=finished.steps,
            guidance=self._request.guidance,
            scheduler=self._request.scheduler,
            model_id=self._request.model_id,
            model_version=self._model_version,
            gpu_seconds=finished.device_seconds,
            queue_time=_duration(queue.end_ns - queue.start_ns),
            run_time=_duration(last.end_ns - queue.end_ns),
        )


def _image(picture: Picture) -> generation_pb2.GeneratedImage:
    return generation_pb2.GeneratedImage(
        seed=picture.seed,
        width=picture.width,
        height=picture.height,
        bytes=len(picture.data),
        sha256=hashlib.sha256(picture.data).hexdigest(),
        media_type=PNG,
    )


def _chunks(picture: Picture, sha256: str) -> Iterator[image_pb2.Chunk]:
    size = len(picture.data)
    for offset in range(0, size, CHUNK_BYTES):
        last = offset + CHUNK_BYTES >= size
        yield image_pb2.Chunk(
            index=picture.index,
            offset=offset,
            data=picture.data[offset : offset + CHUNK_BYTES],
            last=last,
            sha256=sha256 if last else "",
        )


def _duration(nanoseconds: int) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(nanoseconds)
    return duration


STATES = {
    State.LOADING: model_pb2.MODEL_STATE_LOADING,
    State.READY: model_pb2.MODEL_STATE_READY,
    State.FAILED: model_pb2.MODEL_STATE_FAILED,
    State.UNLOADED: model_pb2.MODEL_STATE_UNLOADED,
}
POLICIES = {"snap": model_pb2.SIZE_POLICY_SNAP, "refuse": model_pb2.SIZE_POLICY_REFUSE}


def model_message(own: OwnModel, status: Status) -> model_pb2.Model:
    """A model as the contract shows it."""
    manifest = own.model.manifest
    return model_pb2.Model(
        model_id=manifest.id,
        model_version=own.version,
        display_name=manifest.display_name,
        family=manifest.family,
        state=STATES[status.state],
        error=status.error,
        capabilities=manifest.capabilities,
        size=_size_limits(manifest),
        max_count=manifest.max_count,
        default_steps=manifest.defaults.steps,
        max_steps=manifest.max_steps,
        default_guidance=manifest.defaults.guidance,
        default_scheduler=manifest.defaults.scheduler,
        schedulers=manifest.schedulers,
        license=manifest.license,
        gpu_second_price=_money(manifest.gpu_second_price_usd),
    )


def _size_limits(manifest: Manifest) -> model_pb2.SizeLimits:
    size = manifest.size
    default = image_pb2.ImageSize(width=manifest.defaults.width, height=manifest.defaults.height)
    return model_pb2.SizeLimits(
        min=size.min, max=size.max, factor=size.factor, policy=POLICIES[size.policy], default_size=default
    )


def _money(decimal: str) -> Money | None:
    if not decimal:
        return None
    units, _, fraction = decimal.partition(".")
    return Money(currency_code="USD", units=int(units), nanos=int(fraction.ljust(9, "0")))


def capacity_message(engine: str, busy: dict[str, Busy]) -> inference_service_pb2.GetCapacityResponse:
    """The engines of the given models, and each of their devices once."""
    models = [_model_capacity(name, each) for name, each in busy.items()]
    memories = {each.memory.device: each.memory for each in busy.values()}
    devices = [
        model_pb2.DeviceMemory(device=m.device, total_bytes=m.total, used_bytes=m.used) for m in memories.values()
    ]
    return inference_service_pb2.GetCapacityResponse(
        running=sum(model.running for model in models),
        waiting=sum(model.waiting for model in models),
        slots=sum(model.slots for model in models),
        models=models,
        devices=devices,
        engine=engine,
    )


def _model_capacity(name: str, busy: Busy) -> model_pb2.ModelCapacity:
    load = busy.load
    return model_pb2.ModelCapacity(
        model_id=name,
        running=load.running,
        waiting=load.waiting,
        slots=load.slots,
        waiting_limit=load.waiting_limit,
        steps_done=load.steps_done,
    )
