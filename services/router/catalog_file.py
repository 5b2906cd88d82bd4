"""Reading `catalog.yaml`: every fault of the file is told at once, each with its path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError

from services.router.catalog import Catalog, Entry, ModelEntry, Passthrough, ProviderEntry, Route
from services.router.pricing import UnpricedError, Work
from services.router.specs import Size

DEFAULT_CATALOG: Final = Path(__file__).with_name("catalog.yaml")
ANY_SIZE: Final = Size(1, 1)
"""Stands for the sizes that a route does not list: they need a price for `*`."""
PRICE_UNITS: Final = frozenset({"IMAGE", "MEGAPIXEL", "STEP", "SECOND", "GPU_SECOND", "TOKEN"})


class CatalogError(Exception):
    """The catalog cannot be used; `faults` holds a line for each reason."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        super().__init__("\n".join(f"{path.name}: {fault}" for fault in faults))
        self.faults = tuple(faults)


class CatalogDocument(Entry):
    """The file."""

    providers: tuple[ProviderEntry, ...] = Field(min_length=1)
    models: tuple[ModelEntry, ...] = Field(min_length=1)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, where YAML would quietly keep the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[object] = set()
        for key_node, _ in node.value:  # as written: what `<<` merges in may be overridden
            if key_node.value in seen:
                what = f"key {key_node.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            seen.add(key_node.value)
        return node


def load_catalog(path: Path, environment: Mapping[str, str]) -> Catalog:
    """The catalog in the file. Of the environment only the names of the keys it mentions are looked at.

    Raises:
        CatalogError: with every fault.
    """
    content = _read(path)
    document = _parse(path, content)
    faults = [*_faults(document)]
    if faults:
        raise CatalogError(path, faults)
    wanted = {name for provider in document.providers for account in provider.accounts for name in account.variables}
    return Catalog(
        providers={provider.id: provider for provider in document.providers},
        models={model.id: model for model in document.models},
        keys=frozenset(name for name in wanted if environment.get(name)),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CatalogError(path, [f"cannot be read: {error.strerror}"]) from error


def _parse(path: Path, content: bytes) -> CatalogDocument:
    try:
        loaded = yaml.load(content, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise CatalogError(path, [" ".join(str(error).split())]) from error
    try:
        return CatalogDocument.model_validate(loaded)
    except ValidationError as error:
        raise CatalogError(path, [*_told(error)]) from error


def _told(error: ValidationError) -> Iterator[str]:
    """A list is not told to be too short where its faulty elements are told."""
    faults = error.errors()
    for fault in faults:
        where = fault["loc"]
        inside = any(other["loc"][: len(where)] == where for other in faults if other is not fault)
        if not (fault["type"] == "too_short" and inside):
            yield f"{_path(where)}: {fault['msg']}"


def _path(parts: Sequence[str | int]) -> str:
    """`models[0].routes[1].price.amount`; the union's tag that pydantic puts in is left out."""
    text = ""
    for part in parts:
        if part in PRICE_UNITS:
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def _faults(document: CatalogDocument) -> Iterator[str]:
    yield from _repeated("providers", [provider.id for provider in document.providers])
    yield from _repeated("models", [model.id for model in document.models])
    providers = {provider.id: provider for provider in document.providers}
    for number, provider in enumerate(document.providers):
        yield from _repeated(f"providers[{number}].accounts", [account.name for account in provider.accounts])
        for place, passed in enumerate(provider.passthrough):
            yield from _price_faults(f"providers[{number}].passthrough[{place}]", passed)
    for number, model in enumerate(document.models):
        if model.id == "auto":
            yield f"models[{number}].id: `auto` is no model"
        yield from _repeated(f"models[{number}].routes", [route.provider for route in model.routes])
        yield from _version_faults(f"models[{number}]", model)
        for place, route in enumerate(model.routes):
            yield from _route_faults(f"models[{number}].routes[{place}]", model, route, providers)


def _route_faults(where: str, model: ModelEntry, route: Route, providers: Mapping[str, ProviderEntry]) -> Iterator[str]:
    if route.provider not in providers:
        yield f"{where}.provider: there is no provider {route.provider!r}"
    elif providers[route.provider].unsupported:
        yield f"{where}.provider: {route.provider} is unsupported"
    for version in route.pins:
        if version not in model.versions:
            yield f"{where}.pins: {version!r} is not in the model's versions"
    yield from _price_faults(where, route)


def _version_faults(where: str, model: ModelEntry) -> Iterator[str]:
    named = {"sunsets": [*model.sunsets], "canary.version": [model.canary.version] if model.canary else []}
    for field, versions in named.items():
        for version in versions:
            if version not in model.versions:
                yield f"{where}.{field}: {version!r} is not in the model's versions"
    if model.canary is None:
        return
    if not model.default_version:
        yield f"{where}.canary: there is no other version to compare it with"
    for place, route in enumerate(model.routes):
        if model.canary.version not in route.pins:
            yield f"{where}.routes[{place}].pins: the canary {model.canary.version!r} needs the provider's name for it"


def _price_faults(where: str, route: Route | Passthrough) -> Iterator[str]:
    takes = route.capabilities
    if route.price.unit == "STEP" and not takes.default_steps:
        yield f"{where}.capabilities.default_steps: a price by step needs it"
    sizes = {*takes.sizes} or {takes.default_size, ANY_SIZE}
    faults: dict[str, None] = {}
    for operation in sorted(takes.operations):
        for size in sizes | ({takes.input_size} if takes.input_size else set()):
            try:
                route.price.worst(Work(size, quality=route.quality, steps=1, operation=operation, inputs=1))
            except UnpricedError as error:
                faults[str(error)] = None
    yield from (f"{where}.price: {fault}" for fault in faults)


def _repeated(where: str, names: Sequence[str]) -> Iterator[str]:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            yield f"{where}[{number}]: {name!r} is there twice"
        seen.add(name)
