"""How a worker plans a job that was accepted: under the key's allowlist, and true to what earlier runs ordered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from services.router.catalog import Catalog
from services.router.choices import Choice, Wanted
from services.router.money import Money
from services.router.planning import Observed, PlanRequest
from services.router.runs import Run
from services.router.specs import AUTO, JobOptions, OnUnknown
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


def wanted_of(run: Run, choices: Sequence[Choice], observed: Observed) -> Wanted:
    """What is to be ordered now, from whom, and when somebody else is asked beside a slow one."""

    def hedge_after(choice: Choice) -> float | None:
        return observed.p95_s(choice.provider, choice.model) if run.options.routing.hedge else None

    fail_on_unknown = run.options.routing.on_unknown is OnUnknown.FAIL
    return Wanted(choices, run.missing, run.ends, fail_on_unknown, hedge_after, run.grip.draining)


def likely(run: Run, catalog: Catalog) -> tuple[str, ...]:
    """The provider that a job without orders will probably ask first: that of its model's first usable route."""
    model = catalog.models.get(run.spec.model)
    if model is None or run.attempts or run.committed:
        return ()
    providers = [route.provider for route in model.routes]
    return tuple(name for name in providers if not catalog.provider_obstacle(catalog.providers[name]))[:1]


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
