"""What the catalog says reaches callers: versions, sunsets, rights, capacity, models passed through, prices."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from imagemesh.router.v1 import catalog_pb2, job_pb2

from services.router.catalog import Catalog
from services.router.planning import Planner, PlanRequest
from services.router.quoting import offers
from services.router.specs import GenerationSpec, JobOptions, Routing
from services.router.wire_catalog import model_to_proto, provider_to_proto, quote_to_proto
from tests.router.catalogs import CAPABILITIES, PRICE, document, load, model, provider, route

TODAY = datetime.date(2026, 11, 20)
ABLE = {
    "operations": ["EDIT", "CONTROL", "UPSCALE"],
    "controls": ["depth", "canny"],
    "loras": ["oil", "ink"],
    "upscale_factors": [4, 2],
    "input_size": "1536x1024",
    "max_images": 2,
}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    priced = route(
        "acme", strengths=["commercial_indemnity"], sunset="2027-03-15", batch=True, capabilities=ABLE, pins={"v2": "p"}
    )
    tiers = [{"from": 1000, "amounts": {"*": "0.01"}}]
    priced["price"] = {**PRICE, "tiers": tiers, "batch_discount": "0.5", "per_input": "0.001"}
    passed = {"pattern": "owner/*", "capabilities": CAPABILITIES, "price": PRICE, "commercial_use": "conditions"}
    account = {"key_env": "KEY", "dedicated": "2 units", "region": "eu"}
    return load(
        tmp_path,
        document(
            [provider("acme", accounts=[account], passthrough=[passed]), provider("bolt")],
            [
                model(
                    "painter",
                    priced,
                    versions=["v2", "v1", "v0"],
                    canary={"version": "v2", "percent": 12.5},
                    sunsets={"v0": "2026-12-01"},
                    commercial_use="yes",
                ),
                model("plain", route("bolt")),
            ],
        ),
        {"KEY": "x"},
    )


def test_a_model_tells_its_versions_rights_and_ends(catalog: Catalog) -> None:
    told = model_to_proto(catalog, catalog.models["painter"], TODAY)
    assert (told.default_version, told.commercial_use, told.HasField("sunset_time")) == ("v1", "yes", False)
    new, old = told.version_details
    assert (new.version, new.canary_percent, new.HasField("sunset_time")) == ("v2", 12.5, False)
    assert (old.version, old.canary_percent, old.sunset_time.ToJsonString()) == ("v0", 0, "2026-12-01T00:00:00Z")
    (acme,) = told.routes
    assert (list(acme.strengths), acme.batch, acme.available) == (["commercial_indemnity"], True, True)
    assert acme.sunset_time.ToJsonString() == "2027-03-15T00:00:00Z"
    can = acme.capabilities
    assert (list(can.controls), list(can.upscale_factors)) == (["canny", "depth"], [4, 2])
    assert list(can.loras) == ["ink", "oil"]
    assert (can.input_size.width, can.input_size.height) == (1536, 1024)
    assert set(can.operations) == {
        job_pb2.OPERATION_EDIT, job_pb2.OPERATION_CONTROL, job_pb2.OPERATION_UPSCALE
    }  # fmt: skip


def test_a_price_tells_tiers_source_images_and_discount(catalog: Catalog) -> None:
    price = model_to_proto(catalog, catalog.models["painter"], TODAY).routes[0].price
    assert [(entry.applies_to, entry.amount) for entry in price.entries] == [
        ("*", "0.02"),
        ("source image", "0.001"),
        ("* from 1000 pictures a month", "0.01"),
    ]
    assert price.batch_discount == "0.5"
    assert model_to_proto(catalog, catalog.models["plain"], TODAY).routes[0].price.batch_discount == ""


def test_a_provider_tells_its_capacity_and_what_it_passes_through(catalog: Catalog) -> None:
    told = provider_to_proto(catalog, catalog.providers["acme"], {})
    assert [(account.region, account.configured, account.dedicated) for account in told.accounts] == [
        ("eu", True, "2 units")
    ]
    (passed,) = told.passthrough
    assert (passed.pattern, passed.commercial_use, passed.price.unit) == (
        "owner/*", "conditions", catalog_pb2.PRICE_UNIT_IMAGE
    )  # fmt: skip


def test_an_offer_tells_its_price_and_what_it_would_leave_out(catalog: Catalog) -> None:
    spec, options = GenerationSpec("a cat", seed=7), JobOptions(routing=Routing(may_drop=("seed",)))
    planner = Planner(catalog, today=lambda: TODAY)
    (offer,) = quote_to_proto(offers(planner, PlanRequest(spec, options))).offers
    assert (offer.provider, list(offer.dropped)) == ("bolt", ["seed"])
    assert (offer.price.source, offer.price.date) == ("test", "2026-11-20")
