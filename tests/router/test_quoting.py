from pathlib import Path

import pytest

from mesh.errors import FailedPrecondition, InvalidArgument, NotFound
from services.router import quoting
from services.router.money import Money
from services.router.planning import Planner, PlanRequest
from services.router.specs import GenerationSpec, ImageInput, JobOptions, Lane, Operation, Size
from tests.router.catalogs import document, load, model, provider, route


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    keyless = provider("keyless", accounts=[{"key_env": "KEYLESS_KEY"}])
    routes = (route("keyless", "0.005"), route("dear", "0.04"), route("cheap", "0.01"))
    return Planner(
        load(tmp_path, document([keyless, provider("dear"), provider("cheap")], [model("painter", *routes)]))
    )


def wanted(count: int = 2, max_cost: Money | None = None, **spec: object) -> PlanRequest:
    return PlanRequest(
        GenerationSpec(prompt="a cat", count=count, **spec),  # type: ignore[arg-type]
        JobOptions(max_cost=max_cost),
    )


def test_the_dearest_planned_candidate_is_reserved(planner: Planner) -> None:
    assert quoting.quote(planner, wanted()).reserve == Money(80_000)


def test_max_cost_bounds_the_reservation(planner: Planner) -> None:
    quote = quoting.quote(planner, wanted(max_cost=Money(50_000)))
    assert quote.reserve == Money(20_000)
    assert [candidate.provider for candidate in quote.candidates] == ["cheap"]


def test_offers_list_usable_routes_first_and_say_what_the_others_lack(planner: Planner) -> None:
    offers = quoting.offers(planner, wanted(max_cost=Money(50_000)))
    assert [(offer.candidate.provider, offer.obstacle) for offer in offers] == [
        ("cheap", ""),
        ("dear", "costs more than options.max_cost, 0.05 USD"),
        ("keyless", "no key: set KEYLESS_KEY"),
    ]
    assert [offer.candidate.worst_case for offer in offers] == [Money(20_000), Money(80_000), Money(10_000)]


def test_what_nobody_can_draw_is_refused(planner: Planner) -> None:
    with pytest.raises(InvalidArgument, match=r"spec.size"):
        quoting.offers(planner, wanted(size=Size(32, 32)))
    with pytest.raises(NotFound):
        quoting.offers(planner, wanted(model="nobody"))
    with pytest.raises(FailedPrecondition):
        quoting.quote(planner, wanted(max_cost=Money(1)))


def test_an_offer_counts_source_images_batch_calls_and_what_the_input_is_taken_for(tmp_path: Path) -> None:
    priced = route("acme", batch=True, capabilities={"operations": ["EDIT"], "max_images": 4})
    priced["price"] = {**priced["price"], "per_input": "0.01", "batch_discount": "0.5"}
    of = Planner(load(tmp_path, document([provider("acme")], [model("editor", priced)])))
    spec = GenerationSpec("a cat", Operation.EDIT, images=(ImageInput("a"), ImageInput("b")))

    def offer(lane: Lane) -> tuple[str, Money]:
        (found,) = quoting.offers(of, PlanRequest(spec, JobOptions(lane=lane)))
        return quoting.explain(found.candidate), found.candidate.worst_case

    how = "1 call, 1 x the input's size, counted as 1024x1024, 2 source images"
    assert offer(Lane.INTERACTIVE) == (how, Money(40_000))
    assert offer(Lane.BATCH) == (how + ", batch", Money(20_000))


def test_the_explanation_counts_calls_and_pictures(planner: Planner) -> None:
    (first, *_) = quoting.offers(planner, wanted(count=5))
    assert quoting.explain(first.candidate) == "2 calls, 5 x 1024x1024"
