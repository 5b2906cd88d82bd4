import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import FailedPrecondition, FieldViolation, InvalidArgument, MeshError, NotFound, PermissionDenied
from services.router.capabilities import RATIO_TOLERANCE, Capabilities, size_for
from services.router.catalog import Catalog
from services.router.catalog_file import DEFAULT_CATALOG, load_catalog
from services.router.money import Money
from services.router.planning import Planner, PlanRequest
from services.router.specs import GenerationSpec, Goal, ImageInput, JobOptions, Operation, Output, Routing, Size
from tests.router.catalogs import document, load, model, provider, route

TODAY = datetime.date(2026, 11, 20)


class Speeds:
    """Medians by provider."""

    def __init__(self, **seconds: float) -> None:
        self._seconds = seconds

    def p50_s(self, provider: str, model: str) -> float | None:
        return self._seconds.get(provider)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """`painter` on acme (0.02) and bolt (0.01, seeds); `sketcher` on cheap (0.001); `closed` on keyless."""
    return load(
        tmp_path,
        document(
            [
                provider("acme"),
                provider("bolt"),
                provider("cheap"),
                provider("keyless", accounts=[{"key_env": "KEYLESS_KEY"}]),
            ],
            [
                model(
                    "painter",
                    route("acme", "0.02", timeout_s=600),
                    route("bolt", "0.01", capabilities={"seed": True, "count_per_call": 1}, pins={"v1": "m-1-old"}),
                    strengths=["photorealism", "text_rendering"],
                    quality_rank=50,
                    versions=["v2", "v1"],
                ),
                model("sketcher", route("cheap", "0.001"), strengths=["speed"], quality_rank=5),
                model("closed", route("keyless")),
                model("gone", route("acme"), sunset="2026-11-20"),
            ],
        ),
    )


def planner(catalog: Catalog, **fields: Any) -> Planner:
    return Planner(catalog, today=lambda: TODAY, **fields)


def request(spec: dict[str, Any] | None = None, routing: dict[str, Any] | None = None, **fields: Any) -> PlanRequest:
    options = fields.pop("options", None) or JobOptions(
        routing=Routing(**(routing or {})), max_cost=fields.pop("max_cost", None)
    )
    return PlanRequest(GenerationSpec(**{"prompt": "a red circle", **(spec or {})}), options, **fields)


def providers(of: Planner, wanted: PlanRequest) -> list[str]:
    return [candidate.provider for candidate in of.plan(wanted)]


ROUTED = [
    ({}, {}, ["acme", "bolt", "cheap"]),
    ({"model": "painter"}, {}, ["acme", "bolt"]),
    ({}, {"goal": Goal.CHEAPEST}, ["cheap", "bolt", "acme"]),
    ({}, {"goal": Goal.BEST}, ["acme", "bolt", "cheap"]),
    ({}, {"goal": Goal.FASTEST}, ["cheap", "acme", "bolt"]),
    ({"model": "painter"}, {"goal": Goal.CHEAPEST}, ["bolt", "acme"]),
    ({}, {"strengths": ("speed",)}, ["cheap"]),
    ({}, {"strengths": ("photorealism", "text_rendering")}, ["acme", "bolt"]),
    ({}, {"allow": ("bolt", "cheap")}, ["bolt", "cheap"]),
    ({}, {"deny": ("acme",)}, ["bolt", "cheap"]),
    ({}, {"fallback": False}, ["acme"]),
    ({"seed": 7}, {}, ["bolt"]),
    ({"size": Size(1536, 1024)}, {}, ["acme", "bolt", "cheap"]),
    ({"aspect_ratio": "3:2"}, {"fallback": False}, ["acme"]),
    ({"output": Output("webp", 80)}, {"fallback": False}, ["acme"]),
]


@pytest.mark.parametrize(("spec", "routing", "expected"), ROUTED)
def test_candidates_in_order(catalog: Catalog, spec: Any, routing: Any, expected: list[str]) -> None:
    of = planner(catalog, observed=Speeds(acme=4.0, cheap=2.0))
    assert providers(of, request(spec, routing)) == expected


def test_a_seed_that_the_mesh_drew_excludes_nobody(catalog: Catalog) -> None:
    assert providers(planner(catalog), request({"seed": 7, "model": "painter"}, seed_given=False)) == ["acme", "bolt"]


def test_without_fallback_the_first_within_the_reservation_is_taken(catalog: Catalog) -> None:
    wanted = request({"model": "painter"}, {"fallback": False}, reserved=Money(10_000))
    assert providers(planner(catalog), wanted) == ["bolt"]
    assert providers(planner(catalog), replace(wanted, reserved=Money(1))) == []


def test_the_worst_case_counts_every_call(catalog: Catalog) -> None:
    acme, bolt = planner(catalog).plan(request({"model": "painter", "count": 5}))
    assert (acme.calls(), acme.worst_case) == ([4, 1], Money(100_000))
    assert (bolt.calls(), bolt.worst_case) == ([1] * 5, Money(50_000))


def test_a_version_is_pinned_under_the_providers_name(catalog: Catalog) -> None:
    acme, bolt = planner(catalog).plan(request({"model": "painter", "model_version": "v1"}))
    assert (acme.version, acme.provider_model) == ("v1", "m-1")
    assert (bolt.version, bolt.provider_model) == ("v1", "m-1-old")
    assert planner(catalog).plan(request({"model": "painter"}))[0].version == "v2"


REFUSED = [
    ({"model": "paintr"}, {}, NotFound, "MODEL_NOT_FOUND", []),
    ({"model": "painter", "size": Size(500, 500)}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.size"]),
    ({"aspect_ratio": "9:16"}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.aspect_ratio"]),
    ({"model": "sketcher", "seed": 1}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.seed"]),
    ({"negative_prompt": "blur"}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.negative_prompt"]),
    ({"steps": 20}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.steps"]),
    ({"guidance": 5.0}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.guidance"]),
    ({"scheduler": "euler"}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.scheduler"]),
    ({"output": Output("jpeg")}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.output.format"]),
    (
        {"output": Output("png", 0, True)}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.output.transparent_background"],
    ),
    ({"model": "painter", "model_version": "v9"}, {}, InvalidArgument, "NO_CANDIDATE", ["spec.model_version"]),
    (
        {"operation": Operation.IMAGE_TO_IMAGE, "images": (ImageInput("ast_1"),)},
        {}, InvalidArgument, "NO_CANDIDATE", ["spec.operation", "spec.images"],
    ),
    ({"model": "painter"}, {"allow": ("cheap",)}, InvalidArgument, "NO_CANDIDATE", ["options.routing.allow"]),
    ({"model": "sketcher"}, {"deny": ("cheap",)}, InvalidArgument, "NO_CANDIDATE", ["options.routing.deny"]),
    ({}, {"strengths": ("indemnity",)}, InvalidArgument, "NO_CANDIDATE", ["options.routing.strengths"]),
    ({}, {"allow": ("acmee",)}, InvalidArgument, "INVALID_FIELD", ["options.routing.allow"]),
    ({}, {"deny": ("nobody",)}, InvalidArgument, "INVALID_FIELD", ["options.routing.deny"]),
    ({"provider_options": {"acm": {"a": 1}}}, {}, InvalidArgument, "INVALID_FIELD", ["spec.provider_options"]),
    ({"provider_options": {"acme": {"n": 9}}}, {}, InvalidArgument, "INVALID_FIELD", ["spec.provider_options.acme.n"]),
    ({"model": "closed"}, {}, FailedPrecondition, "NO_CANDIDATE", []),
    ({"model": "gone"}, {}, FailedPrecondition, "NO_CANDIDATE", []),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "routing", "kind", "reason", "fields"), REFUSED)
def test_refusals_name_the_field(
    catalog: Catalog, spec: Any, routing: Any, kind: type[MeshError], reason: str, fields: list[str]
) -> None:
    with pytest.raises(kind) as refused:
        planner(catalog).plan(request(spec, routing))
    assert refused.value.reason == reason
    assert [violation.field for violation in refused.value.violations] == fields


def test_a_refusal_says_what_the_nearest_route_takes(catalog: Catalog) -> None:
    with pytest.raises(InvalidArgument, match="sketcher on cheap takes 1024x1024 or 1536x1024"):
        planner(catalog).plan(request({"model": "sketcher", "size": Size(64, 64)}))


def test_what_cannot_be_used_now_says_why(catalog: Catalog) -> None:
    with pytest.raises(FailedPrecondition, match="closed on keyless: no key: set KEYLESS_KEY"):
        planner(catalog).plan(request({"model": "closed"}))


def test_the_keys_allowlist(catalog: Catalog) -> None:
    assert providers(planner(catalog), request(models=frozenset({"sketcher"}))) == ["cheap"]
    with pytest.raises(PermissionDenied) as refused:
        planner(catalog).plan(request({"model": "painter"}, models=frozenset({"sketcher"})))
    assert refused.value.reason == "MODEL_NOT_ALLOWED"


def test_candidates_above_max_cost_are_skipped(catalog: Catalog) -> None:
    assert providers(planner(catalog), request(max_cost=Money(10_000))) == ["bolt", "cheap"]
    with pytest.raises(FailedPrecondition, match=r"sketcher on cheap, may cost 0\.001 USD") as refused:
        planner(catalog).plan(request(max_cost=Money(999)))
    assert refused.value.reason == "MAX_COST_EXCEEDED"


def test_max_cost_is_in_the_catalogs_currency(catalog: Catalog) -> None:
    with pytest.raises(InvalidArgument, match=r"options.max_cost.currency_code.*USD"):
        planner(catalog).plan(request(max_cost=Money(10_000, "EUR")))


def test_provider_options_are_those_that_the_adapter_takes(catalog: Catalog) -> None:
    def check(provider: str, options: Mapping[str, object]) -> list[FieldViolation]:
        return [FieldViolation(f"spec.provider_options.{provider}.{key}", "no") for key in options if key != "fast"]

    of = planner(catalog, check_options=check)
    assert of.plan(request({"provider_options": {"bolt": {"fast": True}}}))
    with pytest.raises(InvalidArgument) as refused:
        of.plan(request({"provider_options": {"bolt": {"fast": True, "n": 9}}}))
    assert [violation.field for violation in refused.value.violations] == ["spec.provider_options.bolt.n"]


EDGES = Capabilities(min_edge=64, max_edge=512, edge_step=8, default_size=Size(64, 64))
LISTED = Capabilities(sizes=(Size(1024, 1024), Size(1536, 1024), Size(1024, 1536)), default_size=Size(1024, 1024))


@pytest.mark.parametrize(
    ("ratio", "takes", "size"),
    [
        ("1:1", EDGES, Size(64, 64)),
        ("16:9", EDGES, Size(112, 64)),
        ("9:16", EDGES, Size(64, 112)),
        ("8:1", EDGES, Size(512, 64)),
        ("9:1", EDGES, None),
        ("3:2", LISTED, Size(1536, 1024)),
        ("2:3", LISTED, Size(1024, 1536)),
        ("16:9", LISTED, None),
        ("100:1", LISTED, None),
    ],
)
def test_a_ratio_becomes_a_size_near_it_or_is_refused(ratio: str, takes: Capabilities, size: Size | None) -> None:
    assert size_for(GenerationSpec(prompt="x", aspect_ratio=ratio), takes) == size


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_ratio_is_never_silently_another(width: int, height: int) -> None:
    size = size_for(GenerationSpec(prompt="x", aspect_ratio=f"{width}:{height}"), EDGES)
    if size is not None:
        assert EDGES.takes(size)
        assert abs(size.width / size.height / (width / height) - 1) <= RATIO_TOLERANCE


def test_the_default_catalog_plans_auto_on_the_own_engine() -> None:
    (candidate,) = planner(load_catalog(DEFAULT_CATALOG, {})).plan(request({"seed": 7, "steps": 4}))
    assert (candidate.provider, candidate.model, candidate.size) == ("imagemesh", "demo", Size(64, 64))
    assert candidate.worst_case == Money(40)
