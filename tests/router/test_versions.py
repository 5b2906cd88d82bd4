"""Which version a job gets: pins, canaries by tenant, sunsets, allowlists of keys; and models passed through."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from services.router.candidates import Candidate
from services.router.catalog import Canary, Catalog
from services.router.money import Money
from services.router.planning import Planner, PlanRequest
from services.router.specs import AUTO, GenerationSpec, JobOptions, Routing
from services.router.versions import in_canary
from tests.router.catalogs import CAPABILITIES, PRICE, document, load, model, provider, route

TODAY = datetime.date(2026, 11, 20)
PINS = {"v3": "m-3", "v2": "m-2", "v1": "m-1-old"}
PASSED = [
    {"pattern": "black-forest-labs/*", "capabilities": CAPABILITIES, "price": PRICE, "timeout_s": 60},
    {"pattern": "stability-ai/sdxl:*", "capabilities": CAPABILITIES, "price": {**PRICE, "amounts": {"*": "0.5"}}},
]
TENANTS = [f"tenant-{number}" for number in range(2000)]


def catalog(folder: Path, percent: float = 10, **fields: Any) -> Catalog:
    content = document(
        [provider("acme", passthrough=PASSED), provider("bolt")],
        [
            model(
                "painter",
                route("acme", pins=PINS),
                route("bolt", pins=PINS, strengths=["commercial_indemnity"], sunset="2026-12-01"),
                versions=["v3", "v2", "v1"],
                canary={"version": "v3", "percent": percent},
                **fields,
            ),
            model("sketcher", route("acme", "0.01")),
        ],
    )
    return load(folder, content)


def plan(
    of: Catalog, spec: dict[str, Any] | None = None, today: datetime.date = TODAY, **fields: Any
) -> list[Candidate]:
    wanted = GenerationSpec(**{"prompt": "a red circle", "model": "painter", **(spec or {})})
    return [*Planner(of, today=lambda: today).plan(PlanRequest(wanted, fields.pop("options", JobOptions()), **fields))]


def version(of: Catalog, **fields: Any) -> tuple[str, str]:
    first = plan(of, **fields)[0]
    return first.version, first.provider_model


def test_about_the_stated_share_of_tenants_gets_the_canary_and_always_the_same(tmp_path: Path) -> None:
    of = catalog(tmp_path, 10)
    got = {tenant: version(of, tenant=tenant) for tenant in TENANTS[:400]}
    assert set(got.values()) == {("v3", "m-3"), ("v2", "m-2")}
    assert 20 <= sum(found == ("v3", "m-3") for found in got.values()) <= 60
    assert all(version(of, tenant=tenant) == found for tenant, found in got.items())


@given(st.text(max_size=40), st.floats(0, 100), st.floats(0, 100))
def test_a_larger_share_only_adds_tenants(tenant: str, one: float, other: float) -> None:
    small, large = (in_canary(tenant, "m", Canary(version="v", percent=share)) for share in sorted((one, other)))
    assert large or not small


@pytest.mark.parametrize(("percent", "expected"), [(0, 0), (100, len(TENANTS))])
def test_none_and_all(percent: float, expected: int) -> None:
    canary = Canary(version="v", percent=percent)
    assert sum(in_canary(tenant, "m", canary) for tenant in TENANTS) == expected


def test_a_pin_wins_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert version(catalog(tmp_path, 100), spec={"model_version": "v1"}) == ("v1", "m-1-old")
    with pytest.raises(InvalidArgument, match="has versions v3, v2, v1"):
        plan(catalog(tmp_path), {"model_version": "v9"})


def test_a_job_keeps_the_version_that_it_ordered_before(tmp_path: Path) -> None:
    assert version(catalog(tmp_path, 0), earlier={"painter": "v3"}) == ("v3", "m-3")
    assert version(catalog(tmp_path, 100), earlier={"painter": "v2"}) == ("v2", "m-2")
    assert version(catalog(tmp_path, 0), earlier={"painter": "as-reported"}) == ("v2", "m-2")


def test_a_version_past_its_sunset_is_passed_over_and_a_pin_of_it_says_so(tmp_path: Path) -> None:
    of = catalog(tmp_path, 0, sunsets={"v2": "2026-11-20"})
    assert version(of) == ("v1", "m-1-old")
    with pytest.raises(FailedPrecondition, match="version v2 was switched off on 2026-11-20"):
        plan(of, {"model_version": "v2"})


def test_a_route_has_its_own_sunset_and_strengths(tmp_path: Path) -> None:
    of = catalog(tmp_path)
    assert [candidate.provider for candidate in plan(of, today=datetime.date(2026, 12, 1))] == ["acme"]
    indemnified = JobOptions(routing=Routing(strengths=("commercial_indemnity",)))
    assert [c.provider for c in plan(of, {"model": AUTO}, options=indemnified)] == ["bolt"]


def test_a_key_may_be_held_to_versions(tmp_path: Path) -> None:
    of, old = catalog(tmp_path, 100), frozenset({"painter@v1"})
    assert version(of, models=old) == ("v1", "m-1-old")
    assert {c.version for c in plan(of, {"model": AUTO}, models=old)} == {"v1"}
    assert version(catalog(tmp_path, 0), models=frozenset({"painter@v3"})) == ("v3", "m-3")
    with pytest.raises(PermissionDenied, match="version 'v2' of model 'painter'") as refused:
        plan(of, {"model_version": "v2"}, models=old)
    assert refused.value.reason == "MODEL_NOT_ALLOWED"
    with pytest.raises(PermissionDenied, match="model 'sketcher'"):
        plan(of, {"model": "sketcher"}, models=old)


def test_models_pass_through_by_the_providers_allowlist_at_its_price(tmp_path: Path) -> None:
    of = catalog(tmp_path)
    (flux,) = plan(of, {"model": "acme:black-forest-labs/flux-dev", "count": 2})
    assert (flux.provider, flux.provider_model, flux.timeout_s) == ("acme", "black-forest-labs/flux-dev", 60)
    assert (flux.model, flux.worst_case) == ("acme:black-forest-labs/flux-dev", Money(40_000))
    (sdxl,) = plan(of, {"model": "acme:stability-ai/sdxl:39ed52f2"})
    assert (sdxl.provider_model, sdxl.worst_case) == ("stability-ai/sdxl:39ed52f2", Money(500_000))


@pytest.mark.parametrize(
    "name",
    [
        "acme:somebody/else",
        "bolt:black-forest-labs/flux-dev",
        "nobody:black-forest-labs/flux-dev",
        "black-forest-labs/flux-dev",
        "acme:black-forest-labs/../secrets",
        "acme:black-forest-labs//x",
        "acme:black-forest-labs/x?webhook=1",
        "acme:",
    ],
)
def test_what_the_allowlist_lacks_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound) as refused:
        plan(catalog(tmp_path), {"model": name})
    assert refused.value.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("allowed", "planned"), [("acme:*", True), ("acme:black-forest-labs/flux-dev", True), ("painter", False)]
)
def test_a_keys_allowlist_holds_for_models_passed_through(tmp_path: Path, allowed: str, planned: bool) -> None:
    wanted: dict[str, Any] = {"model": "acme:black-forest-labs/flux-dev"}
    if planned:
        assert plan(catalog(tmp_path), wanted, models=frozenset({allowed}))
    else:
        with pytest.raises(PermissionDenied):
            plan(catalog(tmp_path), wanted, models=frozenset({allowed}))


def test_auto_never_chooses_a_model_that_is_only_passed_through(tmp_path: Path) -> None:
    assert {candidate.model for candidate in plan(catalog(tmp_path), {"model": AUTO})} == {"painter", "sketcher"}
