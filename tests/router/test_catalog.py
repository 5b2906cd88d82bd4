import datetime
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import NotFound
from services.router.catalog import Catalog
from services.router.catalog_file import DEFAULT_CATALOG, CatalogError, load_catalog
from services.router.specs import Size
from tests.router.catalogs import document, load, model, provider, route, write

TODAY = datetime.date(2026, 11, 20)
GOOD = document([provider("acme")], [model("painter", route("acme"))])


def test_the_default_catalog_draws_on_the_own_engine_without_any_key() -> None:
    catalog = load_catalog(DEFAULT_CATALOG, {})
    demo = catalog.models["demo"]
    assert demo.routes[0].capabilities.default_size == Size(64, 64)
    assert catalog.obstacle(demo, demo.routes[0], TODAY) == ""
    for model_id, route_ in ((m.id, r) for m, r in catalog.routes() if r.provider == "openai"):
        assert catalog.obstacle(catalog.models[model_id], route_, TODAY) == "no key: set OPENAI_API_KEY"
    assert catalog.provider_obstacle(catalog.providers["midjourney"]) == "it has no official API"


def test_a_key_makes_a_provider_usable_and_is_not_kept() -> None:
    catalog = load_catalog(DEFAULT_CATALOG, {"OPENAI_API_KEY": "sk-secret", "OTHER": "x"})
    image = catalog.models["gpt-image-2"]
    assert catalog.obstacle(image, image.routes[0], TODAY) == ""
    assert catalog.keys == {"OPENAI_API_KEY"}
    assert "sk-secret" not in repr(catalog)
    assert catalog.account(catalog.providers["openai"]) is not None


def test_an_account_needs_all_of_its_secrets_and_names_those_it_lacks(tmp_path: Path) -> None:
    account = {"key_env": "ID", "extra_env": {"client_secret": "SECRET"}, "settings": {"project": "p1"}}
    content = document([provider("acme", accounts=[account, {"name": "b", "key_env": "B"}])], GOOD["models"])
    assert obstacle(load(tmp_path, content)) == "no key: set ID and SECRET or B"
    assert obstacle(load(tmp_path, content, {"ID": "x"})) == "no key: set SECRET or B"
    both = load(tmp_path, content, {"ID": "x", "SECRET": "y"})
    chosen = both.account(both.providers["acme"])
    assert chosen is not None
    assert (chosen.name, chosen.settings, obstacle(both)) == ("default", {"project": "p1"}, "")


def obstacle(catalog: Catalog) -> str:
    return catalog.provider_obstacle(catalog.providers["acme"])


def test_every_price_of_the_default_catalog_has_a_source_and_a_day() -> None:
    for _, of in load_catalog(DEFAULT_CATALOG, {}).routes():
        assert of.price.source
        assert of.price.date <= TODAY


def test_a_model_is_not_used_from_its_sunset_on() -> None:
    catalog = load_catalog(DEFAULT_CATALOG, {"OPENAI_API_KEY": "x"})
    mini = catalog.models["gpt-image-1-mini"]
    assert catalog.obstacle(mini, mini.routes[0], datetime.date(2026, 11, 30)) == ""
    assert "2026-12-01" in catalog.obstacle(mini, mini.routes[0], datetime.date(2026, 12, 1))


@pytest.mark.parametrize(("asked", "near"), [("dmo", "demo"), ("DEMO", "demo"), ("gpt-image-3", "gpt-image-2")])
def test_an_unknown_model_is_told_with_its_nearest_names(asked: str, near: str) -> None:
    with pytest.raises(NotFound, match=near) as refused:
        load_catalog(DEFAULT_CATALOG, {}).model(asked)
    assert refused.value.reason == "MODEL_NOT_FOUND"
    assert near in refused.value.metadata["nearest"].split(",")


def test_nothing_is_near_to_nonsense() -> None:
    with pytest.raises(NotFound) as refused:
        load_catalog(DEFAULT_CATALOG, {}).model("\N{SNOWMAN}" * 3)
    assert refused.value.metadata["nearest"] == ""


def change(path: str, value: Any) -> dict[str, Any]:
    """GOOD with one place changed; `path` is dotted, numbers index lists."""
    import copy

    changed = copy.deepcopy(GOOD)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = changed
    for part in way:
        place = place[part]
    place[last] = value
    return changed


FAULTS = [
    (change("models.0.routes.0.provider", "acmee"), "models[0].routes[0].provider: there is no provider 'acmee'"),
    (change("models.0.routes.0.timeout_s", -1), "models[0].routes[0].timeout_s: Input should be greater than 0"),
    (
        change("models.0.routes.0.price.amounts", {"*": 0.5}),
        "models[0].routes[0].price.amounts.*: Input should be a valid",
    ),
    (
        change("models.0.routes.0.price.amounts", {"1024x1024": "1"}),
        "models[0].routes[0].price: no price for 1536x1024",
    ),
    (change("models.0.routes.0.capabilities.default_size", "99x99"), "default_size 99x99 is not a size that is taken"),
    (
        change("models.0.routes.0.capabilities.sizes", ["big"]),
        "capabilities.sizes[0]: Value error, must look like 1024x768",
    ),
    (change("models.0.routes.0.capabilities.operations", ["PAINT"]), "capabilities.operations[0]"),
    (change("models.0.routes.0.pins", {"v9": "m-9"}), "models[0].routes[0].pins: 'v9' is not in the model's versions"),
    (
        change("models.0.canary", {"version": "v2", "percent": 5}),
        "models[0].canary.version: 'v2' is not in",
    ),
    (change("models.0.canary", {"version": "v2", "percent": 101}), "models[0].canary.percent: Input should be less"),
    (change("models.0.canary", {"version": "v2", "percent": 5}), "models[0].routes[0].pins: the canary 'v2' needs"),
    (change("models.0.sunsets", {"v2": "2026-12-01"}), "models[0].sunsets: 'v2' is not in the model's versions"),
    (
        change("providers.0.passthrough", [{"pattern": "a/*", "capabilities": {"default_size": "64x64"}}]),
        "providers[0].passthrough[0].price: Field required",
    ),
    (change("models.0.routes.0.price.batch_discount", "1.5"), "price.batch_discount: Value error, must be 0 to 1"),
    (change("models.0.routes.0.price.tiers", [{"from": 9, "first": "1"}]), "must state what the price itself states"),
    (change("models.0.routes", []), "models[0].routes: Tuple should have at least 1 item"),
    (change("models.0.id", "auto"), "models[0].id: `auto` is no model"),
    (change("models.0.colour", "red"), "models[0].colour: Extra inputs are not permitted"),
    (change("providers.0.endpoint", "images.example"), "providers[0].endpoint"),
    (change("providers.0.accounts", [{"key_env": "not a name"}]), "providers[0].accounts[0].key_env"),
    (change("providers.0.accounts", [{"extra_env": {"secret": ""}}]), "providers[0].accounts[0].extra_env.secret"),
    (
        change("models.0.routes.0.capabilities.input_size", "big"),
        "capabilities.input_size: Value error, must look",
    ),
    (change("providers.0.unsupported", "no interface"), "models[0].routes[0].provider: acme is unsupported"),
    (change("providers", [provider("acme"), provider("acme")]), "providers[1]: 'acme' is there twice"),
    (change("models", [model("p", route("acme")), model("p", route("acme"))]), "models[1]: 'p' is there twice"),
    (change("models.0.routes", [route("acme"), route("acme")]), "models[0].routes[1]: 'acme' is there twice"),
    ("providers: [", "while parsing"),
    ("providers: []\nproviders: []", "key 'providers' is there twice"),
    ("[1, 2]", "the file: Input should be a valid dictionary"),
]


@pytest.mark.parametrize(("content", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_a_fault_is_told_with_its_path(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(CatalogError) as refused:
        load(tmp_path, content)
    assert any(told in fault for fault in refused.value.faults), refused.value.faults


def test_a_price_by_step_needs_default_steps(tmp_path: Path) -> None:
    price = {"unit": "STEP", "amount": "0.1", "source": "test", "date": "2026-11-20"}
    with pytest.raises(CatalogError, match="default_steps: a price by step needs it"):
        load(tmp_path, change("models.0.routes.0.price", price))


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    two = change("models.0.routes.0.timeout_s", -1)
    two["providers"][0]["accounts"] = [{"max_concurrency": -1}]
    with pytest.raises(CatalogError) as refused:
        load(tmp_path, two)
    assert len(refused.value.faults) == 2


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        load_catalog(tmp_path / "nothing.yaml", {})


def test_two_catalogs_by_path(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = load_catalog(write(tmp_path, GOOD), {})
    second = load_catalog(write(tmp_path / "other", change("models.0.id", "sculptor")), {})
    assert (list(first.models), list(second.models)) == (["painter"], ["sculptor"])
    assert first.sha256 != second.sha256
