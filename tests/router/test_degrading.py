"""What a candidate cannot honour is left out only by the caller's leave, and then said; sizes are snapped likewise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

from mesh.errors import InvalidArgument
from services.router.attempt_store import message
from services.router.capabilities import Capabilities
from services.router.catalog import Catalog
from services.router.degrading import LEFT_OUT, nearest_size
from services.router.planning import Planner, PlanRequest
from services.router.specs import GenerationSpec, JobOptions, Output, Routing, Size
from tests.router.catalogs import document, load, model, provider, route
from tests.router.rig import Rig
from tests.router.stores import Stores

EVERYTHING: dict[str, Any] = {
    "negative_prompt": "blur",
    "seed": 7,
    "steps": 20,
    "guidance": 5.0,
    "scheduler": "euler",
    "output": Output("jpeg", 80),
    "size": Size(800, 800),
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """`able` on bolt takes a seed, for more money than `plain` on acme, which takes nothing."""
    routes = [route("acme", "0.01"), route("bolt", "0.02", capabilities={"seed": True})]
    return load(tmp_path, document([provider("acme"), provider("bolt")], [model("m", *routes)]))


def plan(catalog: Catalog, may_drop: tuple[str, ...], **fields: Any) -> list[tuple[str, tuple[str, ...]]]:
    options = JobOptions(routing=Routing(may_drop=may_drop))
    candidates = Planner(catalog).plan(PlanRequest(GenerationSpec("a red circle", **fields), options))
    return [(candidate.provider, candidate.dropped) for candidate in candidates]


def test_nothing_is_left_out_unless_allowed(catalog: Catalog) -> None:
    assert plan(catalog, (), seed=7) == [("bolt", ())]
    with pytest.raises(InvalidArgument, match=r"spec\.steps"):
        plan(catalog, ("seed",), seed=7, steps=20)


def test_what_is_allowed_no_longer_excludes_and_who_honours_it_comes_first(catalog: Catalog) -> None:
    assert plan(catalog, ("seed",), seed=7) == [("bolt", ()), ("acme", ("seed",))]
    assert plan(catalog, ("seed",)) == [("acme", ()), ("bolt", ())]
    told = dict(plan(catalog, tuple(LEFT_OUT), **EVERYTHING))
    assert set(told["acme"]) == {
        "negative_prompt", "seed", "steps", "guidance", "scheduler", "output.format", "size"
    }  # fmt: skip
    assert "seed" not in told["bolt"]


def test_a_snapped_size_is_the_nearest_and_is_said(catalog: Catalog) -> None:
    options = JobOptions(routing=Routing(may_drop=("size",)))

    def first(**fields: Any) -> tuple[Size, tuple[str, ...]]:
        candidate = Planner(catalog).plan(PlanRequest(GenerationSpec("x", **fields), options))[0]
        return candidate.size, candidate.dropped

    assert first(size=Size(1000, 1010)) == (Size(1024, 1024), ("size",))
    assert first(size=Size(2000, 1200)) == (Size(1536, 1024), ("size",))
    assert first(aspect_ratio="16:9") == (Size(1536, 1024), ("size",))
    assert first(size=Size(1536, 1024)) == (Size(1536, 1024), ())


BOUNDS = st.builds(
    lambda low, high, step, ratio: (low, high, step, ratio),
    st.integers(16, 512),
    st.integers(512, 2048),
    st.sampled_from([1, 8, 16, 64]),
    st.sampled_from([0.0, 1.0, 2.5]),
)


@given(BOUNDS, st.integers(16, 8192), st.integers(16, 8192), st.sampled_from([0, 600_000]))
def test_the_nearest_size_is_one_that_the_route_takes(
    bounds: tuple[int, int, int, float], width: int, height: int, most: int
) -> None:
    low, high, step, ratio = bounds
    takes = Capabilities(
        min_edge=low, max_edge=high, edge_step=step, max_ratio=ratio, max_pixels=most, default_size=Size(512, 512)
    )
    size = nearest_size(GenerationSpec("x", size=Size(width, height)), takes)
    assert takes.takes(size)
    if takes.takes(Size(width, height)):
        assert size == Size(width, height)


async def test_the_provider_is_not_told_and_the_attempt_says_so(stores: Stores, tmp_path: Path) -> None:
    rig = Rig(stores, tmp_path)
    routing = job_pb2.Routing(may_drop=["steps", "guidance", "output.format", "size"])
    job_id = await rig.submit(
        options=job_pb2.JobOptions(routing=routing),
        steps=30,
        guidance=4,
        output=job_pb2.OutputOptions(format="jpeg", quality=70),
        size=image_pb2.ImageSize(width=16, height=16),
    )
    await rig.walk(await rig.claim())
    (call,) = rig.one.calls
    assert (call.steps, call.guidance, call.output_format, call.compression) == (None, None, "", 0)
    assert (call.width, call.height, call.seed) == (16, 16, 7)
    (attempt,) = await rig.stores.attempts.list(job_id)
    assert list(message(attempt).dropped) == ["steps", "guidance", "output.format"]
    assert attempt.account == "default"
