"""A route of the catalog that promises more than its adapter can do is a start error, told with its path."""

from pathlib import Path
from typing import Any

import pytest

from services.router.breaker import BreakerConfig, Breakers
from services.router.catalog_file import DEFAULT_CATALOG, CatalogError
from services.router.providers import AccountError, Connections, open_providers
from services.router.providers.http import PooledHttpClient
from services.router.providers.routes import load_checked
from tests.router.catalogs import document, load, model, provider, route, write


def catalog(folder: Path, variant: str = "gpt-image", kind: str = "openai", **fields: Any) -> Path:
    return write(
        folder, document([provider("acme", variant=variant, kind=kind)], [model("painter", route("acme", **fields))])
    )


def test_the_default_catalog_is_within_the_adapters() -> None:
    _, able = load_checked(DEFAULT_CATALOG, {})
    assert able["imagemesh"].replay_safe


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"capabilities": {"seed": True}}, "models[0].routes[0].capabilities.seed: openai takes no seed"),
        ({"capabilities": {"max_steps": 5}}, "models[0].routes[0].capabilities.max_steps: openai takes no steps"),
        ({"capabilities": {"controls": ["canny"]}}, "capabilities.controls: openai takes no controls"),
        ({"capabilities": {"upscale_factors": [2]}}, "capabilities.upscale_factors: openai takes no factor"),
        ({"capabilities": {"formats": ["gif"]}}, "capabilities.formats: openai takes jpeg, png, webp"),
        ({"capabilities": {"operations": ["CONTROL"]}}, "capabilities.operations: openai takes "),
    ],
)
def test_a_promise_that_the_adapter_cannot_keep_is_told(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(CatalogError) as refused:
        load_checked(catalog(tmp_path, **fields), {})
    assert [told in fault for fault in refused.value.faults] == [True]


def test_kind_and_variant_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no adapter 'paint'"):
        load_checked(catalog(tmp_path, kind="paint"), {})
    with pytest.raises(CatalogError, match="no variant 'oil'"):
        load_checked(catalog(tmp_path, variant="oil"), {})


def test_an_account_that_its_adapter_cannot_use_is_told_with_its_place(tmp_path: Path) -> None:
    account = {"name": "main", "key_env": "KEY", "settings": {"inputs:acme/painter": "no_such_term=prompt"}}
    providers = [provider("aggregator", kind="replicate", accounts=[account])]
    loaded = load(tmp_path, document(providers, [model("m", route("aggregator"))]), {"KEY": "x"})
    shared = Connections(PooledHttpClient(), None)  # type: ignore[arg-type]
    with pytest.raises(AccountError, match=r"providers\.aggregator\.accounts\.main: .*no_such_term"):
        open_providers(loaded, {"KEY": "x"}, shared, Breakers(BreakerConfig(), lambda: 0.0))
