"""What a valid request is: one row per promise of the contract."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from imagemesh.router.v1 import job_pb2, job_service_pb2

from mesh.errors import InvalidArgument, MeshError, Unimplemented
from services.router import wire
from services.router.money import Money
from services.router.specs import (
    CachePolicy,
    Control,
    GenerationSpec,
    Goal,
    ImageInput,
    JobOptions,
    Lane,
    Lora,
    Margins,
    OnUnknown,
    Operation,
    Output,
    Routing,
    Size,
    effective_cache,
    effective_deadline_s,
    picture_seed,
)
from services.router.wire_job import check_list, read_creation
from services.router.wire_record import read_filter

MIB = 1024 * 1024


def creation(spec: dict[str, Any], options: dict[str, Any] | None = None) -> job_service_pb2.CreateJobRequest:
    body = {"spec": {"prompt": "a red circle", **spec}, "options": options or {}}
    return json_format.ParseDict(body, job_service_pb2.CreateJobRequest())


def inline(size: int) -> dict[str, str]:
    import base64

    return {"inline": base64.b64encode(bytes(size)).decode()}


INK = {"loraId": "ink"}
CANNY = {"kind": "canny", "image": {"assetId": "ast_1"}}

ACCEPTED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"prompt": "x" * 32_000}, {}),
    ({"prompt": "\N{SNOWMAN}" * 32_000}, {}),
    ({"size": {"width": 16, "height": 8192}}, {}),
    ({"aspectRatio": "16:9"}, {}),
    ({"count": 10, "seed": 0, "steps": 1, "guidance": 0}, {}),
    ({"count": 0, "seed": 2**32 - 1, "steps": 500, "guidance": 100}, {}),
    ({"operation": "OPERATION_IMAGE_TO_IMAGE", "images": [{"assetId": "ast_1"}], "strength": 1}, {}),
    ({"operation": "OPERATION_INPAINT", "images": [inline(10)], "mask": inline(10)}, {}),
    ({"operation": "OPERATION_EDIT", "images": [{"url": "https://example.org/a.png"}] * 16}, {}),
    ({"operation": "OPERATION_EDIT", "images": [inline(2 * MIB)]}, {}),
    ({"operation": "OPERATION_OUTPAINT", "images": [inline(10)], "outpaint": {"left": 2000}, "strength": 1}, {}),
    ({"operation": "OPERATION_UPSCALE", "images": [inline(10)], "prompt": "", "upscaleFactor": 8}, {}),
    ({"operation": "OPERATION_REMOVE_BACKGROUND", "images": [inline(10)], "prompt": ""}, {}),
    ({"operation": "OPERATION_CONTROL", "controls": [{**CANNY, "scale": 2}] * 4, "aspectRatio": "1:1"}, {}),
    ({"operation": "OPERATION_CONTROL", "controls": [CANNY], "images": [inline(10)], "strength": 0.5}, {}),
    ({"loras": [{**INK, "scale": -2}, {"loraId": "Water.color-2_b", "scale": 2}]}, {}),
    ({"operation": "OPERATION_CONTROL", "controls": [CANNY], "loras": [{"loraId": f"l{n}"} for n in range(8)]}, {}),
    ({"output": {"format": "webp", "quality": 100, "transparentBackground": True}}, {}),
    ({"providerOptions": {"openai": {"quality": "low"}}}, {}),
    ({}, {"deadline": "1s"}),
    ({}, {"deadline": "604800s", "lane": "LANE_BATCH"}),
    ({}, {"labels": {f"k{n}": "v" * 255 for n in range(32)}, "user": "u" * 200}),
    ({}, {"maxCost": {"currencyCode": "USD", "nanos": 1000}}),
    ({}, {"routing": {"allow": ["a"], "deny": ["b"], "strengths": ["speed"], "goal": "GOAL_BEST", "hedge": True}}),
]


@pytest.mark.parametrize(("spec", "options"), ACCEPTED)
def test_within_the_bounds_is_accepted(spec: dict[str, Any], options: dict[str, Any]) -> None:
    read_creation(creation(spec, options))


IMAGE = TEXT_WITH_IMAGES = {"images": [{"assetId": "ast_1"}]}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"prompt": ""}, {}, ["spec.prompt"]),
    ({"prompt": " \n"}, {}, ["spec.prompt"]),
    ({"prompt": "x" * 32_001}, {}, ["spec.prompt"]),
    ({"negativePrompt": "x" * 32_001}, {}, ["spec.negative_prompt"]),
    ({"size": {"width": 0, "height": 512}}, {}, ["spec.size.width"]),
    ({"size": {"width": 100_000, "height": 100_000}}, {}, ["spec.size.width", "spec.size.height"]),
    ({"size": {"width": -64, "height": 15}}, {}, ["spec.size.width", "spec.size.height"]),
    ({"aspectRatio": ""}, {}, ["spec.aspect_ratio"]),
    ({"aspectRatio": "16x9"}, {}, ["spec.aspect_ratio"]),
    ({"aspectRatio": "0:1"}, {}, ["spec.aspect_ratio"]),
    ({"aspectRatio": "101:1"}, {}, ["spec.aspect_ratio"]),
    ({"count": -1}, {}, ["spec.count"]),
    ({"count": 11}, {}, ["spec.count"]),
    ({"steps": 0}, {}, ["spec.steps"]),
    ({"steps": 501}, {}, ["spec.steps"]),
    ({"guidance": -0.1}, {}, ["spec.guidance"]),
    ({"guidance": "NaN"}, {}, ["spec.guidance"]),
    ({"guidance": "Infinity"}, {}, ["spec.guidance"]),
    ({"model": "m" * 201}, {}, ["spec.model"]),
    ({"scheduler": "s" * 101}, {}, ["spec.scheduler"]),
    ({"operation": 99}, {}, ["spec.operation"]),
    ({"output": {"format": "bmp"}}, {}, ["spec.output.format"]),
    ({"output": {"format": "webp", "quality": 101}}, {}, ["spec.output.quality"]),
    ({"providerOptions": {f"p{n}": {} for n in range(17)}}, {}, ["spec.provider_options"]),
    ({"providerOptions": {"openai": {"a": "x" * 17_000}}}, {}, ["spec.provider_options"]),
    (TEXT_WITH_IMAGES, {}, ["spec.operation", "spec.images"]),
    ({"strength": 0.5}, {}, ["spec.operation", "spec.strength"]),
    ({"mask": {"assetId": "ast_1"}}, {}, ["spec.operation", "spec.mask", "spec.mask", "spec.images"]),
    ({"operation": "OPERATION_IMAGE_TO_IMAGE"}, {}, ["spec.operation", "spec.images"]),
    ({"operation": "OPERATION_INPAINT", **TEXT_WITH_IMAGES}, {}, ["spec.operation", "spec.mask"]),
    ({"operation": "OPERATION_EDIT", **TEXT_WITH_IMAGES, "strength": 0.5}, {}, ["spec.operation", "spec.strength"]),
    (
        {"operation": "OPERATION_CONTROL", "controls": [CANNY], "strength": 0.5},
        {},
        ["spec.strength", "spec.images"],
    ),
    ({"operation": "OPERATION_EDIT", "images": [{}]}, {}, ["spec.images"]),
    ({"operation": "OPERATION_EDIT", "images": [{"url": "file:///etc/passwd"}]}, {}, ["spec.images"]),
    ({"operation": "OPERATION_EDIT", "images": [{"url": "https://x/" + "a" * 2050}]}, {}, ["spec.images"]),
    ({"operation": "OPERATION_EDIT", "images": [{"assetId": "../x"}]}, {}, ["spec.images"]),
    ({"operation": "OPERATION_EDIT", "images": [{"assetId": "a"}] * 17}, {}, ["spec.images"]),
    (
        {"operation": "OPERATION_INPAINT", "images": [inline(MIB)], "mask": inline(MIB + 1)},
        {},
        ["spec.images", "spec.mask", "spec.controls"],
    ),
    ({"operation": "OPERATION_OUTPAINT", **IMAGE}, {}, ["spec.operation", "spec.outpaint"]),
    ({"operation": "OPERATION_OUTPAINT", **IMAGE, "outpaint": {}}, {}, ["spec.outpaint"]),
    ({"operation": "OPERATION_OUTPAINT", **IMAGE, "outpaint": {"left": 2001}}, {}, ["spec.outpaint"]),
    ({"operation": "OPERATION_OUTPAINT", **IMAGE, "outpaint": {"left": -1, "top": 9}}, {}, ["spec.outpaint"]),
    ({"operation": "OPERATION_OUTPAINT", "outpaint": {"left": 9}}, {}, ["spec.operation", "spec.images"]),
    (
        {"operation": "OPERATION_OUTPAINT", **IMAGE, "outpaint": {"left": 9}, "mask": {"assetId": "ast_2"}},
        {},
        ["spec.operation", "spec.mask"],
    ),
    ({"outpaint": {"left": 9}}, {}, ["spec.operation", "spec.outpaint"]),
    ({"upscaleFactor": 2}, {}, ["spec.operation", "spec.upscale_factor"]),
    ({"operation": "OPERATION_UPSCALE", **IMAGE, "upscaleFactor": 1}, {}, ["spec.upscale_factor"]),
    ({"operation": "OPERATION_UPSCALE", **IMAGE, "upscaleFactor": 9}, {}, ["spec.upscale_factor"]),
    ({"operation": "OPERATION_UPSCALE", **IMAGE, "prompt": " "}, {}, ["spec.prompt"]),
    ({"operation": "OPERATION_UPSCALE", "prompt": ""}, {}, ["spec.operation", "spec.images"]),
    ({"operation": "OPERATION_REMOVE_BACKGROUND"}, {}, ["spec.operation", "spec.images"]),
    (
        {"operation": "OPERATION_UPSCALE", **IMAGE, "aspectRatio": "1:1"},
        {},
        ["spec.operation", "spec.size", "spec.aspect_ratio"],
    ),
    ({"operation": "OPERATION_CONTROL"}, {}, ["spec.operation", "spec.controls"]),
    ({"controls": [CANNY]}, {}, ["spec.operation", "spec.controls"]),
    ({"operation": "OPERATION_CONTROL", "controls": [CANNY] * 5}, {}, ["spec.controls"]),
    ({"operation": "OPERATION_CONTROL", "controls": [{**CANNY, "scale": 2.1}]}, {}, ["spec.controls"]),
    ({"operation": "OPERATION_CONTROL", "controls": [{**CANNY, "scale": "NaN"}]}, {}, ["spec.controls"]),
    ({"operation": "OPERATION_CONTROL", "controls": [{"kind": "canny"}]}, {}, ["spec.controls"]),
    ({"operation": "OPERATION_CONTROL", "controls": [{**CANNY, "kind": "Canny edges"}]}, {}, ["spec.controls"]),
    ({"operation": "OPERATION_CONTROL", "prompt": "", "controls": [CANNY]}, {}, ["spec.prompt"]),
    ({"loras": [{"loraId": f"l{n}"} for n in range(9)]}, {}, ["spec.loras"]),
    ({"loras": [{}]}, {}, ["spec.loras"]),
    ({"loras": [{"loraId": "../ink"}]}, {}, ["spec.loras"]),
    ({"loras": [{**INK, "scale": 2.1}]}, {}, ["spec.loras"]),
    ({"loras": [{**INK, "scale": "NaN"}]}, {}, ["spec.loras"]),
    ({"loras": [INK, {**INK, "scale": 0.5}]}, {}, ["spec.loras"]),
    ({"operation": "OPERATION_UPSCALE", **IMAGE, "loras": [INK]}, {}, ["spec.operation", "spec.loras"]),
    ({"modelVersion": "v1"}, {}, ["spec.model", "spec.model_version"]),
    ({"output": {"format": "png", "quality": 80}}, {}, ["spec.output.format", "spec.output.quality"]),
    (
        {"output": {"format": "jpeg", "transparentBackground": True}},
        {},
        ["spec.output.format", "spec.output.transparent_background"],
    ),
    ({}, {"lane": 9}, ["options.lane"]),
    ({}, {"cache": 9}, ["options.cache"]),
    ({}, {"routing": {"goal": 9}}, ["options.routing.goal"]),
    ({}, {"routing": {"onUnknown": 9}}, ["options.routing.on_unknown"]),
    ({}, {"routing": {"allow": ["a", "b"], "deny": ["b"]}}, ["options.routing.allow", "options.routing.deny"]),
    ({}, {"routing": {"hedge": True}, "lane": "LANE_BATCH"}, ["options.lane", "options.routing.hedge"]),
    ({}, {"routing": {"hedge": True, "fallback": False}}, ["options.routing.fallback", "options.routing.hedge"]),
    ({}, {"routing": {"allow": ["a b"]}}, ["options.routing.allow"]),
    ({}, {"routing": {"strengths": ["s"] * 17}}, ["options.routing.strengths"]),
    ({}, {"deadline": "0.5s"}, ["options.deadline"]),
    ({}, {"deadline": "604801s"}, ["options.deadline"]),
    ({}, {"deadline": "-5s"}, ["options.deadline"]),
    ({}, {"user": "u" * 201}, ["options.user"]),
    ({}, {"user": "a\x00b"}, ["options.user"]),
    ({}, {"labels": {f"k{n}": "" for n in range(33)}}, ["options.labels"]),
    ({}, {"labels": {"Team": "x"}}, ["options.labels"]),
    ({}, {"labels": {"k": "v" * 256}}, ["options.labels"]),
    ({}, {"maxCost": {"units": "1"}}, ["options.max_cost"]),
    ({}, {"maxCost": {"currencyCode": "USD"}}, ["options.max_cost"]),
    ({}, {"maxCost": {"currencyCode": "USD", "units": "-1"}}, ["options.max_cost"]),
    ({}, {"maxCost": {"currencyCode": "USD", "nanos": 999}}, ["options.max_cost"]),
    ({"prompt": "", "count": -1, "steps": 0}, {}, ["spec.prompt", "spec.count", "spec.steps"]),
]


@pytest.mark.parametrize(("spec", "options", "fields"), REFUSED)
def test_each_wrong_field_is_named(spec: dict[str, Any], options: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_creation(creation(spec, options))
    assert refused.value.reason == "INVALID_FIELD"
    assert [violation.field for violation in refused.value.violations] == fields
    assert all(violation.description for violation in refused.value.violations)


LATER: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"template": {"templateId": "t"}}, {}, "spec.template"),
    ({"template": {}}, {}, "spec.template"),
    ({"style": "ink"}, {}, "spec.style"),
    ({"safety": {}}, {}, "spec.safety"),
    ({}, {"renditions": [{"width": 64}]}, "options.renditions"),
    ({}, {"webhook": {"url": "https://example.org"}}, "options.webhook"),
    ({}, {"refine": {"model": "demo"}}, "options.refine"),
]


@pytest.mark.parametrize(("spec", "options", "field"), LATER)
def test_fields_for_later_are_refused_and_named(spec: dict[str, Any], options: dict[str, Any], field: str) -> None:
    with pytest.raises(Unimplemented, match=field.replace(".", r"\.")) as refused:
        read_creation(creation(spec, options))
    assert refused.value.reason == "NOT_IMPLEMENTED"
    assert [violation.field for violation in refused.value.violations] == [field]


def test_an_empty_request_names_the_prompt() -> None:
    with pytest.raises(InvalidArgument, match=r"spec\.prompt"):
        read_creation(job_service_pb2.CreateJobRequest())


def test_defaults() -> None:
    assert read_creation(creation({})) == (GenerationSpec(prompt="a red circle"), JobOptions())


def test_every_field_of_a_spec_is_read() -> None:
    spec, _ = read_creation(
        creation(
            {
                "operation": "OPERATION_INPAINT",
                "negativePrompt": "blur",
                "model": "demo",
                "modelVersion": "v1",
                "size": {"width": 64, "height": 128},
                "count": 3,
                "seed": 0,
                "steps": 7,
                "guidance": 0,
                "scheduler": "euler",
                "strength": 0.5,
                "images": [{"assetId": "ast_1"}],
                "mask": {"url": "https://example.org/m.png"},
                "output": {"format": "webp", "quality": 90},
                "providerOptions": {"openai": {"output_compression": 50, "quality": "low"}},
            }
        )
    )
    assert spec == GenerationSpec(
        prompt="a red circle",
        operation=Operation.INPAINT,
        negative_prompt="blur",
        model="demo",
        model_version="v1",
        size=Size(64, 128),
        count=3,
        seed=0,
        steps=7,
        guidance=0.0,
        scheduler="euler",
        strength=0.5,
        images=(ImageInput(asset_id="ast_1"),),
        mask=ImageInput(url="https://example.org/m.png"),
        output=Output("webp", 90),
        provider_options={"openai": {"output_compression": 50, "quality": "low"}},
    )


def test_what_guides_and_extends_is_read() -> None:
    guided, _ = read_creation(creation({"operation": "OPERATION_CONTROL", "controls": [{**CANNY, "scale": 0}, CANNY]}))
    image = ImageInput(asset_id="ast_1")
    assert guided.controls == (Control("canny", image, 0.0), Control("canny", image))
    styled, _ = read_creation(creation({"loras": [{**INK, "scale": 0}, {"loraId": "oil"}]}))
    assert styled.loras == (Lora("ink", 0.0), Lora("oil"))
    extended, _ = read_creation(
        creation({"operation": "OPERATION_OUTPAINT", **IMAGE, "outpaint": {"left": 1, "bottom": 2}})
    )
    assert extended.margins == Margins(left=1, bottom=2)
    enlarged, _ = read_creation(creation({"operation": "OPERATION_UPSCALE", **IMAGE, "upscaleFactor": 4}))
    assert enlarged.upscale_factor == 4


def test_every_option_is_read() -> None:
    _, options = read_creation(
        creation(
            {},
            {
                "lane": "LANE_BATCH",
                "routing": {
                    "goal": "GOAL_FASTEST",
                    "strengths": ["speed"],
                    "allow": ["imagemesh"],
                    "deny": ["openai"],
                    "fallback": False,
                    "onUnknown": "ON_UNKNOWN_FAIL",
                },
                "cache": "CACHE_POLICY_REFRESH",
                "deadline": "90.5s",
                "user": "u1",
                "labels": {"team": "a"},
                "maxCost": {"currencyCode": "USD", "units": "1", "nanos": 500_000_999},
            },
        )
    )
    assert options == JobOptions(
        lane=Lane.BATCH,
        routing=Routing(Goal.FASTEST, ("speed",), ("imagemesh",), ("openai",), False, OnUnknown.FAIL),
        cache=CachePolicy.REFRESH,
        deadline_s=90.5,
        user="u1",
        labels={"team": "a"},
        max_cost=Money(1_500_000),
    )


@pytest.mark.parametrize(
    ("asked", "seed_given", "applies"),
    [
        (None, True, CachePolicy.USE),
        (None, False, CachePolicy.BYPASS),
        (CachePolicy.USE, False, CachePolicy.USE),
        (CachePolicy.BYPASS, True, CachePolicy.BYPASS),
    ],
)
def test_the_cache_is_used_by_default_when_a_seed_was_given(
    asked: CachePolicy | None, seed_given: bool, applies: CachePolicy
) -> None:
    assert effective_cache(JobOptions(cache=asked), seed_given=seed_given) is applies


def test_deadlines_and_seeds() -> None:
    assert effective_deadline_s(JobOptions()) == 600
    assert effective_deadline_s(JobOptions(lane=Lane.BATCH)) == 86_400
    assert effective_deadline_s(JobOptions(deadline_s=3)) == 3
    assert [picture_seed(2**32 - 1, index) for index in range(3)] == [2**32 - 1, 0, 1]


LISTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"view": 9}, ["view"]),
    ({"filter": {"states": [77]}}, ["filter.states"]),
    ({"filter": {"states": ["JOB_STATE_UNSPECIFIED"]}}, ["filter.states"]),
    ({"filter": {"labels": {"A": "b"}}}, ["filter.labels"]),
    (
        {"filter": {"createdFrom": "2026-01-02T00:00:00Z", "createdUntil": "2026-01-01T00:00:00Z"}},
        ["filter.created_from", "filter.created_until"],
    ),
]


@pytest.mark.parametrize(("body", "fields"), LISTS)
def test_lists(body: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(MeshError) as refused:
        check_list(json_format.ParseDict(body, job_service_pb2.ListJobsRequest()))
    assert [violation.field for violation in refused.value.violations] == fields


def test_a_plain_list_is_accepted() -> None:
    check_list(
        json_format.ParseDict(
            {"filter": {"states": ["JOB_STATE_FAILED"], "user": "u", "labels": {"team": "a"}}, "view": "JOB_VIEW_FULL"},
            job_service_pb2.ListJobsRequest(),
        )
    )


labels = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text(max_size=5), max_size=8)


@given(labels, st.randoms())
def test_the_fingerprint_sorts_maps_and_leaves_the_request_id_out(values: dict[str, str], random: Any) -> None:
    shuffled = list(values.items())
    random.shuffle(shuffled)
    first, second = creation({"seed": 7}, {"labels": values}), creation({"seed": 7})
    for key, value in shuffled:
        second.options.labels[key] = value
    first.request_id, second.request_id = "a", "b"
    first.options.SetInParent()
    second.options.SetInParent()
    assert wire.body_fingerprint(first) == wire.body_fingerprint(second)
    assert first.request_id == "a"


def test_the_fingerprint_tells_bodies_apart() -> None:
    bodies = [creation({}), creation({"seed": 0}), creation({"prompt": "b"}), creation({}, {"user": "u"})]
    validating = creation({})
    validating.validate_only = True
    assert len({wire.body_fingerprint(body) for body in (*bodies, validating)}) == 5


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_money_survives_the_wire(micros: int) -> None:
    assert wire.money_from_proto(wire.money_to_proto(Money(micros))) == Money(micros)


@given(st.integers(min_value=0, max_value=4 * 10**15))
def test_times_survive_the_wire(time_us: int) -> None:
    message = wire.time_to_proto(time_us)
    assert message is not None
    assert wire.time_from_proto(message) == time_us


def test_enums_are_named_without_prefix() -> None:
    for enum in (job_pb2.JobState, job_pb2.Operation, job_pb2.AttemptState, job_pb2.BlockedBy, job_pb2.WaitingFor):
        for number in enum.values():
            assert wire.enum_number(enum, wire.enum_name(enum, number)) == number
    assert wire.enum_number(job_pb2.BlockedBy, "") == 0
    assert wire.enum_name(job_pb2.JobState, job_pb2.JOB_STATE_SUCCEEDED) == "SUCCEEDED"


def test_a_filter_reads_the_same_in_whatever_order_its_labels_come() -> None:
    labels = {f"label{number}": "x" for number in range(20)}
    there, back = dict(labels), dict(reversed(labels.items()))
    requests = [job_service_pb2.ListJobsRequest(filter={"labels": given}) for given in (there, back)]  # type: ignore[arg-type]
    assert list(read_filter(requests[0], "acme").labels) == sorted(labels)
    assert repr(read_filter(requests[0], "acme")) == repr(read_filter(requests[1], "acme"))
