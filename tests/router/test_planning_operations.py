"""Which routes may take an operation that starts from pictures, and what its price counts with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mesh.errors import InvalidArgument
from services.router.catalog import Catalog
from services.router.money import Money
from services.router.planning import Planner, PlanRequest
from services.router.specs import Control, GenerationSpec, ImageInput, JobOptions, Lora, Margins, Operation, Size
from tests.router.catalogs import document, load, model, provider, route

IMAGE = ImageInput("ast_1")
PRICE = {"unit": "IMAGE", "amounts": {"1024x1024": "0.02", "1536x1024": "0.05"}, "source": "t", "date": "2026-11-20"}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """`guided` takes controls and enlarges 4 or 2 times; `plain` enlarges only by its own factor and knows no mask."""
    able = {
        "operations": [operation.value for operation in Operation],
        "controls": ["canny", "depth"],
        "loras": ["ink", "oil"],
        "upscale_factors": [4, 2],
        "max_images": 2,
        "mask": True,
        "input_size": "1536x1024",
    }
    plain = {"operations": ["UPSCALE", "INPAINT", "EDIT"], "max_images": 1}
    return load(
        tmp_path,
        document(
            [provider("acme"), provider("bolt")],
            [
                model("guided", route("acme", capabilities=able) | {"price": PRICE}),
                model("plain", route("bolt", "0.01", capabilities=plain)),
            ],
        ),
    )


def models(catalog: Catalog, operation: Operation, **fields: Any) -> list[str]:
    spec = GenerationSpec(prompt="", operation=operation, **{"images": (IMAGE,), **fields})
    return [candidate.model for candidate in Planner(catalog).plan(PlanRequest(spec, JobOptions()))]


@pytest.mark.parametrize(
    ("operation", "fields", "planned"),
    [
        (Operation.UPSCALE, {}, ["guided", "plain"]),
        (Operation.UPSCALE, {"upscale_factor": 2}, ["guided"]),
        (Operation.OUTPAINT, {"margins": Margins(left=8)}, ["guided"]),
        (Operation.CONTROL, {"controls": (Control("depth", IMAGE),), "images": ()}, ["guided"]),
        (Operation.INPAINT, {"mask": IMAGE}, ["guided", "plain"]),
        (Operation.INPAINT, {"mask": IMAGE, "loras": (Lora("oil"), Lora("ink"))}, ["guided"]),
        (Operation.EDIT, {"mask": IMAGE}, ["guided"]),
        (Operation.EDIT, {"images": (IMAGE, IMAGE)}, ["guided"]),
    ],
)
def test_only_routes_that_take_it_are_planned(
    catalog: Catalog, operation: Operation, fields: dict[str, Any], planned: list[str]
) -> None:
    assert models(catalog, operation, **fields) == planned


@pytest.mark.parametrize(
    ("operation", "fields", "told"),
    [
        (Operation.UPSCALE, {"upscale_factor": 8}, r"spec\.upscale_factor: .*takes 4 or 2.*takes only its own factor"),
        (Operation.CONTROL, {"controls": (Control("pose", IMAGE),)}, r"spec\.controls: .*takes canny, depth"),
        (Operation.INPAINT, {"mask": IMAGE, "loras": (Lora("pop"),)}, r"takes ink, oil.*takes no fine-tunes"),
    ],
)
def test_what_no_route_takes_is_named(
    catalog: Catalog, operation: Operation, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidArgument, match=told):
        models(catalog, operation, **fields)


def test_a_result_that_keeps_the_inputs_size_is_priced_by_the_routes_input_size(catalog: Catalog) -> None:
    def first(**fields: Any) -> tuple[bool, Money]:
        spec = GenerationSpec("x", Operation.EDIT, model="guided", images=(IMAGE,), **fields)
        (candidate,) = Planner(catalog).plan(PlanRequest(spec, JobOptions()))
        return candidate.keeps_size, candidate.worst_case

    assert first() == (True, Money(50_000))
    assert first(size=Size(1024, 1024)) == (False, Money(20_000))
    assert first(aspect_ratio="1:1") == (False, Money(20_000))
