"""Fields of a spec, its options and a list's filter that cannot stand together; a conflict names all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from imagemesh.router.v1 import job_pb2, job_service_pb2

from mesh.errors import FieldViolation
from services.router import wire

MAX_INLINE_BYTES = 2 * 1024 * 1024

FROM_TEXT = frozenset((job_pb2.OPERATION_UNSPECIFIED, job_pb2.OPERATION_TEXT_TO_IMAGE))
FROM_IMAGE = frozenset(job_pb2.Operation.values()) - FROM_TEXT - {job_pb2.OPERATION_CONTROL}
WITHOUT_PROMPT = frozenset((job_pb2.OPERATION_UPSCALE, job_pb2.OPERATION_REMOVE_BACKGROUND))
SIZE_FOLLOWS = WITHOUT_PROMPT | {job_pb2.OPERATION_OUTPAINT}
MASKED = frozenset((job_pb2.OPERATION_INPAINT, job_pb2.OPERATION_EDIT))
WITH_STRENGTH = frozenset(
    (
        job_pb2.OPERATION_IMAGE_TO_IMAGE,
        job_pb2.OPERATION_INPAINT,
        job_pb2.OPERATION_OUTPAINT,
        job_pb2.OPERATION_UPSCALE,
        job_pb2.OPERATION_CONTROL,
    )
)


@dataclass(frozen=True)
class Conflict:
    """Fields that cannot stand together, and what to do."""

    fields: tuple[str, ...]
    broken: Callable[[Any], bool]
    fix: str


def _from_text(spec: job_pb2.GenerationSpec) -> bool:
    return spec.operation in FROM_TEXT


def _inline_bytes(spec: job_pb2.GenerationSpec) -> int:
    guides = sum(len(control.image.inline) for control in spec.controls)
    return sum(len(image.inline) for image in spec.images) + len(spec.mask.inline) + guides


def _needs(operation: job_pb2.Operation.ValueType, field: str) -> Conflict:
    name = wire.enum_name(job_pb2.Operation, operation)
    return Conflict(
        ("operation", field),
        lambda spec: spec.operation == operation and not _given(spec, field),
        f"{name} needs {field}",
    )


def _only(operation: job_pb2.Operation.ValueType, field: str) -> Conflict:
    name = wire.enum_name(job_pb2.Operation, operation)
    return Conflict(
        ("operation", field),
        lambda spec: spec.operation != operation and _given(spec, field),
        f"{field} is for {name} only",
    )


def _given(spec: job_pb2.GenerationSpec, field: str) -> bool:
    return any(descriptor.name == field for descriptor, _ in spec.ListFields())


SPEC_CONFLICTS = (
    Conflict(
        ("operation", "images"),
        lambda spec: _from_text(spec) and len(spec.images) > 0,
        "TEXT_TO_IMAGE takes no images; use IMAGE_TO_IMAGE, INPAINT or EDIT",
    ),
    Conflict(
        ("operation", "images"),
        lambda spec: spec.operation in FROM_IMAGE and not spec.images,
        "this operation needs a source image",
    ),
    Conflict(
        ("operation", "strength"),
        lambda spec: spec.HasField("strength") and spec.operation not in WITH_STRENGTH,
        "strength is for IMAGE_TO_IMAGE, INPAINT, OUTPAINT, UPSCALE and CONTROL",
    ),
    Conflict(
        ("strength", "images"),
        lambda spec: spec.HasField("strength") and spec.operation == job_pb2.OPERATION_CONTROL and not spec.images,
        "strength needs the image that CONTROL begins from",
    ),
    Conflict(
        ("operation", "mask"),
        lambda spec: spec.HasField("mask") and spec.operation not in MASKED,
        "a mask needs INPAINT or EDIT",
    ),
    Conflict(
        ("mask", "images"),
        lambda spec: spec.HasField("mask") and not spec.images,
        "a mask needs the image it lies on",
    ),
    _needs(job_pb2.OPERATION_INPAINT, "mask"),
    _needs(job_pb2.OPERATION_CONTROL, "controls"),
    _only(job_pb2.OPERATION_CONTROL, "controls"),
    Conflict(
        ("operation", "loras"),
        lambda spec: len(spec.loras) > 0 and spec.operation in WITHOUT_PROMPT,
        "UPSCALE and REMOVE_BACKGROUND take no loras",
    ),
    _needs(job_pb2.OPERATION_OUTPAINT, "outpaint"),
    _only(job_pb2.OPERATION_OUTPAINT, "outpaint"),
    _only(job_pb2.OPERATION_UPSCALE, "upscale_factor"),
    Conflict(
        ("operation", "size", "aspect_ratio"),
        lambda spec: spec.operation in SIZE_FOLLOWS and spec.WhichOneof("dimensions") is not None,
        "the size of this operation's result follows from the image; leave both unset",
    ),
    Conflict(
        ("model", "model_version"),
        lambda spec: bool(spec.model_version) and spec.model in ("", "auto"),
        "a version needs a named model",
    ),
    Conflict(
        ("output.format", "output.quality"),
        lambda spec: spec.output.quality > 0 and spec.output.format not in ("jpeg", "webp"),
        "quality needs format jpeg or webp",
    ),
    Conflict(
        ("output.format", "output.transparent_background"),
        lambda spec: spec.output.transparent_background and spec.output.format == "jpeg",
        "jpeg knows no transparency; use png or webp",
    ),
    Conflict(
        ("images", "mask", "controls"),
        lambda spec: _inline_bytes(spec) > MAX_INLINE_BYTES,
        "inline images are at most 2 MiB in all; put larger ones with StorageService.PutAsset",
    ),
)

OPTION_CONFLICTS = (
    Conflict(
        ("routing.allow", "routing.deny"),
        lambda options: bool(set(options.routing.allow) & set(options.routing.deny)),
        "a provider cannot be in both",
    ),
    Conflict(
        ("lane", "routing.hedge"),
        lambda options: options.routing.hedge and options.lane == job_pb2.LANE_BATCH,
        "only the INTERACTIVE lane hedges",
    ),
    Conflict(
        ("routing.fallback", "routing.hedge"),
        lambda options: options.routing.hedge and options.routing.HasField("fallback") and not options.routing.fallback,
        "hedging asks a second candidate; leave fallback on",
    ),
)

FILTER_CONFLICTS = (
    Conflict(
        ("created_from", "created_until"),
        lambda wanted: (
            wanted.HasField("created_from")
            and wanted.HasField("created_until")
            and wire.time_from_proto(wanted.created_from) >= wire.time_from_proto(wanted.created_until)
        ),
        "created_from must be before created_until",
    ),
)


def spec_conflicts(spec: job_pb2.GenerationSpec, prefix: str) -> Iterator[FieldViolation]:
    """One violation per field of every broken conflict."""
    return _violations(spec, SPEC_CONFLICTS, prefix)


def option_conflicts(options: job_pb2.JobOptions, prefix: str) -> Iterator[FieldViolation]:
    """One violation per field of every broken conflict."""
    return _violations(options, OPTION_CONFLICTS, prefix)


def filter_conflicts(wanted: job_service_pb2.JobFilter, prefix: str) -> Iterator[FieldViolation]:
    """One violation per field of every broken conflict."""
    return _violations(wanted, FILTER_CONFLICTS, prefix)


def _violations(message: Any, conflicts: tuple[Conflict, ...], prefix: str) -> Iterator[FieldViolation]:
    for conflict in conflicts:
        if conflict.broken(message):
            others = " and ".join(prefix + field for field in conflict.fields)
            for field in conflict.fields:
                yield FieldViolation(prefix + field, f"{conflict.fix} ({others})")
