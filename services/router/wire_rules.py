"""The tables of what each field of a spec, its options and a list's filter may hold: the contract's bounds.

Models narrow them. Fields that cannot stand together are in `wire_conflicts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

from mesh.validation import Rule, between, length, matches
from services.router import wire
from services.router.degrading import LEFT_OUT

MAX_PROMPT = 32_000
MAX_OPTION_BYTES = 16 * 1024
WEEK_S = 7 * 86_400

LABEL_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
LORA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME = re.compile(r"[A-Za-z0-9_./:-]{1,200}")

SPEC_LATER = {
    "template": "send the rendered text as `prompt`",
    "style": "describe the style in `prompt`",
    "safety": "leave it unset, the tenant's policy applies",
}
OPTION_LATER = {
    "renditions": "ask StorageService.SignUrls for renditions of a published asset",
    "webhook": "use WatchJob",
    "refine": "create a second job from the first one's asset",
}


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


def _control_ok(control: job_pb2.Control) -> bool:
    return re.fullmatch(r"[a-z0-9_]{1,40}", control.kind) is not None and source_ok(control.image)


def _lora_ok(lora: job_pb2.Lora) -> bool:
    return LORA.fullmatch(lora.lora_id) is not None and -2 <= lora.scale <= 2


def _sides(margins: job_pb2.OutpaintMargins) -> tuple[int, ...]:
    return margins.left, margins.top, margins.right, margins.bottom


def _names(low: int, high: int) -> Callable[[Any], bool]:
    return lambda values: low <= len(values) <= high and all(NAME.fullmatch(value) for value in values)


def _labels_ok(labels: Any) -> bool:
    return len(labels) <= 32 and all(
        LABEL_KEY.fullmatch(key) and len(value) <= 255 and not wire.CONTROL_CHARACTERS.search(value)
        for key, value in labels.items()
    )


SOURCE_FIX = "set exactly one of asset_id, inline (not empty) and url (http or https, at most 2048 characters)"
LABELS_FIX = "at most 32 labels, keys like `team.name` of 1 to 63 characters, values at most 255 plain characters"

PROMPT_NEEDED = Rule("prompt", bool, "1 to 32,000 characters; only UPSCALE and REMOVE_BACKGROUND take none")
SPEC_RULES = (
    Rule("operation", wire.known(job_pb2.Operation), "use an operation of this contract"),
    Rule("prompt", lambda text: len(text) <= MAX_PROMPT and not text.isspace(), "1 to 32,000 characters"),
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
    Rule("controls", lambda controls: len(controls) <= 4, "at most 4"),
    Rule("controls", lambda controls: all(map(_control_ok, controls)), f"each: a kind of a-z 0-9 _; {SOURCE_FIX}"),
    Rule("controls", lambda controls: all(0 <= each.scale <= 2 for each in controls), "each scale: 0 to 2"),
    Rule("loras", lambda loras: len(loras) <= 8, "at most 8"),
    Rule("loras", lambda loras: all(map(_lora_ok, loras)), "each: an id of the catalog, a scale of -2 to 2"),
    Rule("loras", lambda loras: len({lora.lora_id for lora in loras}) == len(loras), "each id once"),
    Rule("outpaint", lambda margins: all(0 <= side <= 2000 for side in _sides(margins)), "0 to 2000 pixels a side"),
    Rule("outpaint", lambda margins: any(_sides(margins)), "at least one side above 0"),
    Rule("upscale_factor", lambda factor: factor == 0 or 2 <= factor <= 8, "2 to 8 (0 means the provider's)"),
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
    Rule("routing.may_drop", lambda names: set(names) <= LEFT_OUT.keys(), "some of " + ", ".join(LEFT_OUT)),
    Rule("routing.may_drop", lambda names: len(names) == len(set(names)), "each name once"),
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
