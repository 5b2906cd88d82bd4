"""Protobuf ↔ the engine's values, and the validation table of `GenerateRequest`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from imagemesh.inference.v1 import generation_pb2, inference_service_pb2
from imagemesh.type.v1 import image_pb2

from mesh.errors import FieldViolation
from mesh.validation import Rule, between, check, length, refuse
from services.inference.engine.facts import Fact, Finished, Picture, Preview, Progress, Stage
from services.inference.engine.request import (
    MAX_CONTROLS,
    MAX_LORAS,
    ControlInput,
    DrawRequest,
    Lane,
    LoraUse,
    Margins,
    Wanted,
)

CHUNK_BYTES = 1024 * 1024
PNG = "image/png"
TEXT_TO_IMAGE = "text_to_image"
UPSCALE = "upscale"
PREVIEWS = 5  # of each image, where they are asked for
MAX_IMAGE_BYTES = 20 * 1024 * 1024
LANES = {
    inference_service_pb2.LANE_UNSPECIFIED: Lane.INTERACTIVE,
    inference_service_pb2.LANE_INTERACTIVE: Lane.INTERACTIVE,
    inference_service_pb2.LANE_BATCH: Lane.BATCH,
}


def _zero_or(low: int, high: int) -> Callable[[int], bool]:
    return lambda value: value == 0 or low <= value <= high


def _inline(image: image_pb2.ImageSource) -> bool:
    return 0 < len(image.inline) <= MAX_IMAGE_BYTES


def _guides(controls: Iterable[inference_service_pb2.ControlInput]) -> bool:
    return all(_inline(control.image) for control in controls)


def _scales(low: float, high: float) -> Callable[[Iterable[Any]], bool]:
    return lambda inputs: all(low <= each.scale <= high for each in inputs)


def _sides(margins: inference_service_pb2.Margins) -> bool:
    return all(0 <= side <= 2000 for side in (margins.left, margins.top, margins.right, margins.bottom))


IMAGE_FIX = "must be inline, 1 byte to 20 MiB: this service fetches nothing"
GENERATE_RULES = (
    Rule("request_id", length(0, 128), "must be at most 128 characters"),
    Rule("model_id", length(1, 64), "must name a model"),
    Rule("prompt", length(0, 32_000), "must be 1 to 32,000 characters"),
    Rule("negative_prompt", length(0, 32_000), "must be at most 32,000 characters"),
    Rule("width", _zero_or(16, 8192), "must be 16 to 8192 pixels, or 0 for the model's default"),
    Rule("height", _zero_or(16, 8192), "must be 16 to 8192 pixels, or 0 for the model's default"),
    Rule("count", between(0, 8), "must be 1 to 8, or 0 for 1"),
    Rule("steps", between(1, 150), "must be 1 to 150, or unset for the model's default"),
    Rule("guidance", between(0, 100), "must be 0 to 100, or unset for the model's default"),
    Rule("strength", between(0, 1), "must be 0 to 1, or unset for the operation's default"),
    Rule("images", lambda images: len(images) <= 1, "give at most one"),
    Rule("images", lambda images: all(map(_inline, images)), IMAGE_FIX),
    Rule("mask", _inline, IMAGE_FIX),
    Rule("controls", lambda controls: len(controls) <= MAX_CONTROLS, f"give at most {MAX_CONTROLS}"),
    Rule("controls", _guides, f"each image {IMAGE_FIX}"),
    Rule("controls", _scales(0, 2), "each scale must be 0 to 2"),
    Rule("loras", lambda loras: len(loras) <= MAX_LORAS, f"give at most {MAX_LORAS}"),
    Rule("loras", _scales(-4, 4), "each scale must be -4 to 4"),
    Rule("margins", _sides, "must be 0 to 2000 pixels a side"),
    Rule("upscale_factor", _zero_or(2, 8), "must be 2 to 8, or 0 for the model's first"),
    Rule("lane", lambda lane: lane in LANES, "must be INTERACTIVE or BATCH"),
)
PROMPT_NEEDED = Rule("prompt", bool, "must be 1 to 32,000 characters")


def wanted(request: inference_service_pb2.GenerateRequest, request_id: str) -> Wanted:
    """The request as the engine understands it; `request_id` is used when the caller gives none."""
    operation = request.operation or TEXT_TO_IMAGE
    check(request, GENERATE_RULES if operation == UPSCALE else (PROMPT_NEEDED, *GENERATE_RULES))
    if bool(request.width) != bool(request.height):
        fix = "give both width and height, or neither"
        refuse((FieldViolation("width", fix), FieldViolation("height", fix)))
    return Wanted(
        model_id=request.model_id,
        prompt=request.prompt,
        request_id=request.request_id or request_id,
        negative_prompt=request.negative_prompt,
        operation=operation,
        width=request.width or None,
        height=request.height or None,
        count=request.count or 1,
        seed=request.seed if request.HasField("seed") else None,
        steps=request.steps if request.HasField("steps") else None,
        guidance=request.guidance if request.HasField("guidance") else None,
        scheduler=request.scheduler,
        image=request.images[0].inline if request.images else None,
        mask=request.mask.inline if request.HasField("mask") else None,
        strength=request.strength if request.HasField("strength") else None,
        margins=_margins(request.margins),
        controls=tuple(map(_control, request.controls)),
        loras=tuple(map(_lora, request.loras)),
        upscale_factor=request.upscale_factor or None,
        lane=LANES[request.lane],
        previews=PREVIEWS if request.previews else 0,
    )


def _margins(margins: inference_service_pb2.Margins) -> Margins:
    return Margins(margins.left, margins.top, margins.right, margins.bottom)


def _control(control: inference_service_pb2.ControlInput) -> ControlInput:
    return ControlInput(control.kind, control.image.inline, control.scale if control.HasField("scale") else 1.0)


def _lora(lora: inference_service_pb2.LoraInput) -> LoraUse:
    return LoraUse(lora.lora_id, lora.scale if lora.HasField("scale") else 1.0)


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
