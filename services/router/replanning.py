"""How a worker plans a job that was accepted: under the key's allowlist, and true to what earlier runs ordered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.router.catalog import Catalog
from services.router.money import Money
from services.router.planning import PlanRequest
from services.router.runs import Run
from services.router.specs import AUTO, JobOptions
from services.router.versions import allows_model

AllowedModels = Callable[[str], Awaitable[frozenset[str]]]
"""The models that a key may use, by key id; empty: all. See `versions`."""


async def plan_request(run: Run, catalog: Catalog, allowed_models: AllowedModels) -> PlanRequest:
    """What to plan for a run; the reservation bounds it."""
    return PlanRequest(
        spec=run.spec,
        options=plan_options(run),
        seed_given=not run.job.seed_drawn,
        models=await _allowed(run, catalog, allowed_models),
        reserved=Money(run.job.reserved_micros),
        tenant=run.job.tenant,
        earlier={attempt.model: attempt.model_version for attempt in run.attempts.values()},
    )


def plan_options(run: Run) -> JobOptions:
    """The job's options; without fallback it stays where earlier runs ordered, however its goal orders them now."""
    options, ordered = run.options, {attempt.provider for attempt in run.attempts.values()}
    if options.routing.fallback or not ordered:
        return options
    return replace(options, routing=replace(options.routing, allow=tuple(ordered)))


async def _allowed(run: Run, catalog: Catalog, allowed_models: AllowedModels) -> frozenset[str]:
    """The key's allowlist, where it decides anything: a named model was checked when the job was accepted."""
    name, model = run.spec.model, catalog.models.get(run.spec.model)
    if name != AUTO and (model is None or not model.versions or run.spec.model_version):
        return frozenset()
    allowed = await allowed_models(run.job.key_id)
    return allowed if name == AUTO else frozenset(entry for entry in allowed if allows_model((entry,), name))
