"""Whether the catalog and the engines agree on own models.

`model.yaml` says what a model can do; the catalog adds routes and prices and may only narrow it. Fine-tunes come and go
while a model draws, so one that is not there is no conflict: it is just not offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from imagemesh.inference.v1 import model_pb2

from mesh.errors import FailedPrecondition, MeshError
from mesh.telemetry import logger
from services.router.capabilities import ANY, Capabilities
from services.router.catalog import Catalog, ModelEntry, Route
from services.router.specs import Size

KIND = "imagemesh"
"""The kind of the providers that are our own engines."""
AGAIN_S = 10.0
NO_ANSWER_S = 1.0

log = logger(__name__)

Demand = tuple[str, Callable[[Capabilities, model_pb2.Model], bool], Callable[[model_pb2.Model], object]]

DEMANDS: tuple[Demand, ...] = (
    (
        "operations",
        lambda route, own: {operation.lower() for operation in route.operations} <= set(own.capabilities),
        lambda own: ", ".join(own.capabilities),
    ),
    (
        "controls",
        lambda route, own: route.controls <= set(own.controls),
        lambda own: ", ".join(own.controls) or "none",
    ),
    (
        "upscale_factors",
        lambda route, own: not route.upscale_factors or _same_factors(route, own),
        lambda own: ", ".join(map(str, own.upscale_factors)) or "none",
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


Place = tuple[str, str]
"""A model of the catalog, and the provider of one of its routes."""

Conflicts = Mapping[Place, tuple[str, ...]]
"""What disagrees, by route; a route that is not there agrees."""


def conflicts(catalog: Catalog, listed: Iterable[model_pb2.Model]) -> Conflicts:
    """Every disagreement with what the inference service lists, as lines; empty means that both agree."""
    models = {own.model_id: own for own in listed}
    found = {place: tuple(_disagree(model, route, models)) for place, model, route in _own_routes(catalog)}
    return {place: lines for place, lines in found.items() if lines}


def taken(catalog: Catalog, listed: Iterable[model_pb2.Model]) -> Mapping[Place, Capabilities]:
    """What each own route takes: as the catalog says, with those of the engine's fine-tunes that it allows."""
    there = {own.model_id: frozenset(own.loras) for own in listed}
    return {
        place: _with_loras(route.capabilities, there.get(route.provider_model, frozenset()))
        for place, _, route in _own_routes(catalog)
    }


def _with_loras(route: Capabilities, there: frozenset[str]) -> Capabilities:
    return route.model_copy(update={"loras": there if ANY in route.loras else there & route.loras})


def _own_routes(catalog: Catalog) -> Iterator[tuple[Place, ModelEntry, Route]]:
    for model, route in catalog.routes():
        provider = catalog.providers[route.provider]
        if provider.kind == KIND and provider.enabled:
            yield (model.id, route.provider), model, route


def _disagree(model: ModelEntry, route: Route, models: Mapping[str, model_pb2.Model]) -> Iterator[str]:
    own = models.get(route.provider_model)
    if own is None:
        yield f"the inference service has no model {route.provider_model!r}"
        return
    if model.versions and own.model_version not in model.versions:
        yield f"versions: the engine has {own.model_version}"
    for field, agrees, says in DEMANDS:
        if not agrees(route.capabilities, own):
            yield f"capabilities.{field}: model.yaml says {says(own)}"


def _same_factors(route: Capabilities, own: model_pb2.Model) -> bool:
    """Some of the model's; the first one too, which is drawn when the job names none."""
    return set(route.upscale_factors) <= set(own.upscale_factors) and route.upscale_factors[0] == own.upscale_factors[0]


def _draws(own: model_pb2.Model, size: Size) -> bool:
    step = max(own.size.factor, 1)
    return all(own.size.min <= edge <= own.size.max and edge % step == 0 for edge in (size.width, size.height))


class OwnModels:
    """Compares the catalog with what `ask` lists: when told to, and for ever in `watch`.

    `reasons` and `takes` are live: why a route cannot be used, and what it takes, by model and provider; both are empty
    while nobody has answered.
    """

    def __init__(self, catalog: Catalog, ask: Callable[[], Awaitable[Sequence[model_pb2.Model]]]) -> None:
        self._catalog = catalog
        self._ask = ask
        self._reasons: dict[Place, str] = {}
        self.reasons: Mapping[Place, str] = MappingProxyType(self._reasons)
        self._takes: dict[Place, Capabilities] = {}
        self.takes: Mapping[Place, Capabilities] = MappingProxyType(self._takes)

    async def compare(self) -> tuple[str, ...] | None:
        """The conflicts, a line each; None when there was no answer, and then what was known stays."""
        try:
            listed = await self._ask()
        except MeshError:
            return None
        self._takes.update(taken(self._catalog, listed))
        found = conflicts(self._catalog, listed)
        reasons = {place: "; ".join(lines) for place, lines in found.items()}
        for (model, provider), reason in sorted(reasons.items() - self._reasons.items()):
            log.error("the catalog and the engines disagree", model=model, provider=provider, reason=reason)
        self._reasons.clear()
        self._reasons.update(reasons)
        return tuple(f"models.{model} on {provider}: {line}" for (model, provider), ls in found.items() for line in ls)

    async def watch(self) -> None:
        """Compares again and again, sooner while there was no answer yet."""
        while True:
            answered = await self.compare() is not None
            await asyncio.sleep(AGAIN_S if answered else NO_ANSWER_S)

    async def check(self) -> None:
        """A health check: raises FailedPrecondition while there are conflicts."""
        if self._reasons:
            told = "; ".join(f"{model} on {provider}: {reason}" for (model, provider), reason in self._reasons.items())
            raise FailedPrecondition(f"the catalog and the engines disagree: {told}", reason="NO_CANDIDATE")
