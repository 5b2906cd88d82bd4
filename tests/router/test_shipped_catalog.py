"""Every route of the shipped catalog can be planned and priced for everything it says it takes."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest

from services.router.catalog import Catalog, Route
from services.router.catalog_file import DEFAULT_CATALOG, load_catalog
from services.router.planning import Planner, PlanRequest, Prospect
from services.router.providers.routes import load_checked
from services.router.specs import Control, GenerationSpec, ImageInput, JobOptions, Margins, Operation, Routing

CATALOG = load_catalog(DEFAULT_CATALOG, {})
ROUTES = [(model.id, route) for model, route in CATALOG.routes()]
IDS = [f"{model} on {route.provider}" for model, route in ROUTES]
IMAGE = ImageInput("ast_1")
FROM_TEXT = (Operation.TEXT_TO_IMAGE, Operation.CONTROL)


def wish(operation: Operation, route: Route) -> GenerationSpec:
    """The plainest spec of an operation that a route takes."""
    spec = GenerationSpec("a red circle", operation, images=() if operation in FROM_TEXT else (IMAGE,))
    match operation:
        case Operation.INPAINT:
            return replace(spec, mask=IMAGE)
        case Operation.OUTPAINT:
            return replace(spec, margins=Margins(left=64))
        case Operation.CONTROL:
            return replace(spec, controls=(Control(min(route.capabilities.controls), IMAGE),))
        case _:
            return spec


def prospects(spec: GenerationSpec, provider: str, catalog: Catalog = CATALOG) -> list[Prospect]:
    planner = Planner(catalog, today=lambda: datetime.date(2026, 11, 20))
    options = JobOptions(routing=Routing(allow=(provider,)))
    return [*planner.survey(PlanRequest(spec, options)).prospects]


def test_it_is_within_what_the_adapters_can_do() -> None:
    load_checked(DEFAULT_CATALOG, {})


@pytest.mark.parametrize(("model", "route"), ROUTES, ids=IDS)
def test_each_operation_of_a_route_is_planned_and_priced(model: str, route: Route) -> None:
    for operation in route.capabilities.operations:
        (prospect,) = prospects(replace(wish(operation, route), model=model), route.provider)
        assert prospect.candidate.operation == operation
        assert prospect.candidate.worst_case.micros >= prospect.candidate.call_worst_case(1).micros


@pytest.mark.parametrize(("model", "route"), ROUTES, ids=IDS)
def test_each_size_of_a_route_is_priced(model: str, route: Route) -> None:
    drawn = sorted(route.capabilities.operations & {Operation.TEXT_TO_IMAGE, Operation.EDIT, Operation.IMAGE_TO_IMAGE})
    for operation in drawn:
        for size in route.capabilities.sizes:
            spec = replace(wish(operation, route), model=model, size=size)
            assert [prospect.candidate.size for prospect in prospects(spec, route.provider)] == [size]


@pytest.mark.parametrize(("model", "route"), ROUTES, ids=IDS)
def test_whoever_edits_takes_an_image(model: str, route: Route) -> None:
    needs = route.capabilities.operations - {*FROM_TEXT}
    assert not needs or route.capabilities.max_images >= 1
    assert (Operation.CONTROL in route.capabilities.operations) == bool(route.capabilities.controls)


@pytest.mark.parametrize(
    ("route", "day"),
    [
        ("gpt-image-2 on azure", "2027-10-21"),
        ("gpt-image-2.5-sunburst on azure", "2027-09-09"),
        ("flux-2-pro on azure-flux-2", "2027-01-20"),
    ],
)
def test_what_azure_will_retire_says_when(route: str, day: str) -> None:
    (found,) = [told for name, (_, told) in zip(IDS, ROUTES, strict=True) if name == route]
    assert found.sunset == datetime.date.fromisoformat(day)
