"""Whether the catalog and the engines agree on own models.

`model.yaml` says what a model can do; the catalog adds routes and prices and may only narrow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from imagemesh.inference.v1 import model_pb2

from services.router.capabilities import Capabilities
from services.router.catalog import Catalog, ModelEntry, Route
from services.router.specs import Size

KIND = "imagemesh"
"""The kind of the providers that are our own engines."""

Demand = tuple[str, Callable[[Capabilities, model_pb2.Model], bool], Callable[[model_pb2.Model], object]]

DEMANDS: tuple[Demand, ...] = (
    (
        "operations",
        lambda route, own: {operation.lower() for operation in route.operations} <= set(own.capabilities),
        lambda own: ", ".join(own.capabilities),
    ),
    (
        "min_edge",
        lambda route, own: bool(route.sizes) or route.min_edge >= own.size.min,
        lambda own: f"at least {own.size.min}",
    ),
    (
        "max_edge",
        lambda route, own: bool(route.sizes) or route.max_edge <= own.size.max,
        lambda own: f"at most {own.size.max}",
    ),
    (
        "edge_step",
        lambda route, own: bool(route.sizes) or route.edge_step % max(own.size.factor, 1) == 0,
        lambda own: f"a multiple of {own.size.factor}",
    ),
    (
        "sizes",
        lambda route, own: all(_draws(own, size) for size in route.sizes),
        lambda own: f"{own.size.min} to {own.size.max} in steps of {own.size.factor}",
    ),
    (
        "default_size",
        lambda route, own: (
            (route.default_size.width, route.default_size.height)
            == (own.size.default_size.width, own.size.default_size.height)
        ),
        lambda own: f"{own.size.default_size.width}x{own.size.default_size.height}",
    ),
    (
        "count_per_call",
        lambda route, own: route.count_per_call <= own.max_count,
        lambda own: f"at most {own.max_count}",
    ),
    ("max_steps", lambda route, own: route.max_steps <= own.max_steps, lambda own: f"at most {own.max_steps}"),
    ("default_steps", lambda route, own: route.default_steps == own.default_steps, lambda own: own.default_steps),
    (
        "schedulers",
        lambda route, own: set(route.schedulers) <= set(own.schedulers),
        lambda own: ", ".join(own.schedulers),
    ),
)


def conflicts(catalog: Catalog, listed: Iterable[model_pb2.Model]) -> Iterator[str]:
    """Every disagreement with what the inference service lists, one line each; none means that both agree."""
    models = {own.model_id: own for own in listed}
    for model, route in catalog.routes():
        if catalog.providers[route.provider].kind == KIND:
            yield from _route_conflicts(model, route, models.get(route.provider_model))


def _route_conflicts(model: ModelEntry, route: Route, own: model_pb2.Model | None) -> Iterator[str]:
    where = f"models.{model.id} on {route.provider}"
    if own is None:
        yield f"{where}: the inference service has no model {route.provider_model!r}"
        return
    if model.versions and own.model_version not in model.versions:
        yield f"{where}.versions: the engine has {own.model_version}"
    for field, agrees, says in DEMANDS:
        if not agrees(route.capabilities, own):
            yield f"{where}.capabilities.{field}: model.yaml says {says(own)}"


def _draws(own: model_pb2.Model, size: Size) -> bool:
    step = max(own.size.factor, 1)
    return all(own.size.min <= edge <= own.size.max and edge % step == 0 for edge in (size.width, size.height))
