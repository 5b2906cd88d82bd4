"""Whether the catalog's routes stay within what their adapters can do; a start error with its path where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from services.router.catalog import Catalog, Passthrough, ProviderEntry, Route
from services.router.catalog_file import CatalogError, load_catalog
from services.router.providers import capabilities_of
from services.router.providers.base import Capabilities

Limit = tuple[str, Callable[[Route | Passthrough, Capabilities], bool], Callable[[Capabilities], str]]


def _flag(name: str) -> Limit:
    return (
        f"capabilities.{name}",
        lambda route, able: not getattr(route.capabilities, name) or getattr(able, name),
        lambda _: f"takes no {name}",
    )


def _names(name: str, none: str) -> Limit:
    return (
        f"capabilities.{name}",
        lambda route, able: set(getattr(route.capabilities, name)) <= set(getattr(able, name)),
        lambda able: "takes " + (", ".join(sorted(map(str, getattr(able, name)))) or none),
    )


LIMITS: tuple[Limit, ...] = (
    _names("operations", "no operations"),
    (
        "capabilities.count_per_call",
        lambda route, able: route.capabilities.count_per_call <= able.max_count,
        lambda able: f"draws at most {able.max_count} a call",
    ),
    _flag("seed"),
    _flag("negative_prompt"),
    _flag("guidance"),
    (
        "capabilities.max_steps",
        lambda route, able: not route.capabilities.max_steps or able.steps,
        lambda _: "takes no steps",
    ),
    (
        "capabilities.schedulers",
        lambda route, able: not route.capabilities.schedulers or able.scheduler,
        lambda _: "takes no scheduler",
    ),
    _names("formats", "no format"),
    _flag("transparent_background"),
    (
        "capabilities.max_images",
        lambda route, able: route.capabilities.max_images <= able.max_images,
        lambda able: f"takes at most {able.max_images} images",
    ),
    _flag("mask"),
    _flag("strength"),
    _names("controls", "no controls"),
    _flag("loras"),
    _names("upscale_factors", "no factor"),
    ("quality", lambda route, able: not route.quality or able.quality, lambda _: "takes no quality"),
)


def load_checked(path: Path, environment: Mapping[str, str]) -> tuple[Catalog, Mapping[str, Capabilities]]:
    """The catalog in the file, and what the adapter of each of its providers can do.

    Raises:
        CatalogError: with every fault, each with its path; also where a route promises more than its adapter can do.
    """
    catalog = load_catalog(path, environment)
    try:
        able = capabilities_of(catalog)
    except ValueError as error:
        raise CatalogError(path, [str(error)]) from error
    faults = [*route_faults(catalog, able)]
    if faults:
        raise CatalogError(path, faults)
    return catalog, able


def route_faults(catalog: Catalog, able: Mapping[str, Capabilities]) -> Iterator[str]:
    """What routes promise, also those of models passed through, and their adapters cannot do."""
    for where, provider, route in _promises(catalog):
        for field, within, says in LIMITS:
            if not within(route, able[provider.id]):
                yield f"{where}.{field}: {provider.kind} {says(able[provider.id])}"


def _promises(catalog: Catalog) -> Iterator[tuple[str, ProviderEntry, Route | Passthrough]]:
    for number, provider in enumerate(catalog.providers.values()):
        for place, passed in enumerate(provider.passthrough):
            yield f"providers[{number}].passthrough[{place}]", provider, passed
    for number, model in enumerate(catalog.models.values()):
        for place, route in enumerate(model.routes):
            yield f"models[{number}].routes[{place}]", catalog.providers[route.provider], route
