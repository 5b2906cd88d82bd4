"""The tables of what a spec, its options and a list's filter may hold: the contract's bounds; models narrow them.

A rule looks at one field, a conflict at fields that cannot stand together; a conflict names all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from imagemesh.router.v1 import job_pb2, job_service_pb2
from imagemesh.type.v1 import image_pb2

from mesh.errors import FieldViolation, Unimplemented
from mesh.validation import Rule, between, length, matches
from services.router import wire

MAX_PROMPT = 32_000
MAX_INLINE_BYTES = 2 * 1024 * 1024
MAX_OPTION_BYTES = 16 * 1024
WEEK_S = 7 * 86_400

LABEL_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
NAME = re.compile(r"[A-Za-z0-9_./:-]{1,200}")

SPEC_LATER = {
    "template": "send the rendered text as `prompt`",
    "controls": "leave it empty",
    "loras": "leave it empty",
    "style": "describe the style in `prompt`",
    "safety": "leave it unset, the tenant's policy applies",
}
OPTION_LATER = {
    "routing.hedge": "leave it false; `routing.fallback` tries the next candidate after a failure",
    "renditions": "ask StorageService.SignUrls for renditions of a published asset",
    "webhook": "use WatchJob",
    "refine": "create a second job from the first one's asset",
}
LATER_OPERATIONS = frozenset(
    (
        job_pb2.OPERATION_OUTPAINT,
        job_pb2.OPERATION_CONTROL,
        job_pb2.OPERATION_UPSCALE,
        job_pb2.OPERATION_REMOVE_BACKGROUND,
    )
)
FROM_TEXT = frozenset((job_pb2.OPERATION_UNSPECIFIED, job_pb2.OPERATION_TEXT_TO_IMAGE))


def source_ok(image: image_pb2.ImageSource) -> bool:
    """Whether exactly one source is given and could be fetched."""
    match image.WhichOneof("source"):
        case "asset_id":
            return re.fullmatch(wire.ID, image.asset_id) is not None
        case "inline":
            return len(image.inline) > 0
        case "url":
            return len(image.url) <= 2048 and re.fullmatch(r"https?://[^\s/]+\S*", image.url) is not None
        case _:
            return False


def _names(low: int, high: int) -> Callable[[Any], bool]:
    return lambda values: low <= len(values) <= high and all(NAME.fullmatch(value) for value in values)


def _labels_ok(labels: Any) -> bool:
    return len(labels) <= 32 and all(
        LABEL_KEY.fullmatch(key) and len(value) <= 255 and not wire.CONTROL_CHARACTERS.search(value)
        for key, value in labels.items()
    )


SOURCE_FIX = "set exactly one of asset_id, inline (not empty) and url (http or https, at most 2048 characters)"
LABELS_FIX = "at most 32 labels, keys like `team.name` of 1 to 63 characters, values at most 255 plain characters"

SPEC_RULES = (
    Rule("operation", wire.known(job_pb2.Operation), "use an operation of this contract"),
    Rule("prompt", lambda text: 1 <= len(text) <= MAX_PROMPT and not text.isspace(), "1 to 32,000 characters"),
    Rule("negative_prompt", length(0, MAX_PROMPT), "at most 32,000 characters"),
    Rule("model", wire.plain(0, 200), "`auto` or the id of a catalog model, at most 200 characters"),
    Rule("model_version", wire.plain(0, 200), "a version that the catalog lists, at most 200 characters"),
    Rule("size.width", between(16, 8192), "16 to 8192 pixels"),
    Rule("size.height", between(16, 8192), "16 to 8192 pixels"),
    Rule("aspect_ratio", matches(r"([1-9]\d?|100):([1-9]\d?|100)"), "W:H with whole numbers of 1 to 100, such as 16:9"),
    Rule("count", between(0, 10), "1 to 10 (0 means 1)"),
    Rule("steps", between(1, 500), "1 to 500"),
    Rule("guidance", between(0, 100), "0 to 100"),
    Rule("scheduler", wire.plain(0, 100), "a scheduler that the model lists, at most 100 characters"),
    Rule("strength", between(0, 1), "0 to 1"),
    Rule("images", lambda images: len(images) <= 16 and all(map(source_ok, images)), f"at most 16; each: {SOURCE_FIX}"),
    Rule("mask", source_ok, SOURCE_FIX),
    Rule("output.format", lambda name: name in ("", "png", "jpeg", "webp"), "png, jpeg or webp"),
    Rule("output.quality", between(0, 100), "1 to 100 (0 means the provider's)"),
    Rule("provider_options", lambda options: len(options) <= 16, "at most 16 providers"),
    Rule(
        "provider_options",
        lambda options: sum(value.ByteSize() for value in options.values()) <= MAX_OPTION_BYTES,
        "at most 16 KiB in all",
    ),
)

OPTION_RULES = (
    Rule("lane", wire.known(job_pb2.Lane), "INTERACTIVE or BATCH"),
    Rule("routing.goal", wire.known(job_pb2.Goal), "CHEAPEST, FASTEST or BEST"),
    Rule("routing.strengths", _names(0, 16), "at most 16 names of strengths"),
    Rule("routing.allow", _names(0, 64), "at most 64 ids of providers"),
    Rule("routing.deny", _names(0, 64), "at most 64 ids of providers"),
    Rule("routing.on_unknown", wire.known(job_pb2.OnUnknown), "NEXT or FAIL"),
    Rule("cache", wire.known(job_pb2.CachePolicy), "USE, BYPASS or REFRESH"),
    Rule("deadline", lambda span: 1 <= wire.duration_from_proto(span) <= WEEK_S, "1 second to 7 days"),
    Rule("user", wire.plain(0, 200), "at most 200 characters, no control characters"),
    Rule("labels", _labels_ok, LABELS_FIX),
    Rule("max_cost", lambda money: wire.money_ok(money, least=1), "above zero, with currency_code such as USD"),
)

FILTER_RULES = (
    Rule("states", lambda states: len(states) <= 16 and all(map(wire.known(job_pb2.JobState), states)), "known states"),
    Rule("states", lambda states: job_pb2.JOB_STATE_UNSPECIFIED not in states, "must not hold UNSPECIFIED"),
    Rule("user", wire.plain(0, 200), "at most 200 characters, no control characters"),
    Rule("batch_id", matches(f"({wire.ID})?"), "the id of a batch"),
    Rule("labels", _labels_ok, LABELS_FIX),
    Rule("created_from", wire.time_ok, "a time after 1970"),
    Rule("created_until", wire.time_ok, "a time after 1970"),
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
    return sum(len(image.inline) for image in spec.images) + len(spec.mask.inline)


SPEC_CONFLICTS = (
    Conflict(
        ("operation", "images"),
        lambda spec: _from_text(spec) and len(spec.images) > 0,
        "TEXT_TO_IMAGE takes no images; use IMAGE_TO_IMAGE, INPAINT or EDIT",
    ),
    Conflict(
        ("operation", "strength"),
        lambda spec: _from_text(spec) and spec.HasField("strength"),
        "TEXT_TO_IMAGE takes no strength; use IMAGE_TO_IMAGE or INPAINT",
    ),
    Conflict(
        ("operation", "strength"),
        lambda spec: spec.operation == job_pb2.OPERATION_EDIT and spec.HasField("strength"),
        "EDIT takes no strength; use IMAGE_TO_IMAGE or INPAINT",
    ),
    Conflict(
        ("operation", "mask"),
        lambda spec: (
            spec.HasField("mask") and spec.operation not in (job_pb2.OPERATION_INPAINT, job_pb2.OPERATION_EDIT)
        ),
        "a mask needs INPAINT or EDIT",
    ),
    Conflict(
        ("mask", "images"),
        lambda spec: spec.HasField("mask") and not spec.images,
        "a mask needs the image it lies on",
    ),
    Conflict(
        ("operation", "images"),
        lambda spec: not _from_text(spec) and not spec.images,
        "this operation needs a source image",
    ),
    Conflict(
        ("operation", "mask"),
        lambda spec: spec.operation == job_pb2.OPERATION_INPAINT and not spec.HasField("mask"),
        "INPAINT needs a mask",
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
        ("images", "mask"),
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


def unbuilt_operation(spec: job_pb2.GenerationSpec, prefix: str) -> None:
    """Raises Unimplemented for an operation that belongs to a later version."""
    if spec.operation in LATER_OPERATIONS:
        field, name = f"{prefix}operation", wire.enum_name(job_pb2.Operation, spec.operation)
        fix = "use TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT or EDIT"
        raise Unimplemented(
            f"{field} {name} belongs to a later version of imagemesh: {fix}",
            violations=(FieldViolation(field, fix),),
            metadata={"field": field},
        )


def _violations(message: Any, conflicts: tuple[Conflict, ...], prefix: str) -> Iterator[FieldViolation]:
    for conflict in conflicts:
        if conflict.broken(message):
            others = " and ".join(prefix + field for field in conflict.fields)
            for field in conflict.fields:
                yield FieldViolation(prefix + field, f"{conflict.fix} ({others})")
