"""From a spec and its options to the candidates that could draw it, in the order to try them; or why there is none."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mesh.errors import FailedPrecondition, FieldViolation, InvalidArgument, PermissionDenied
from mesh.validation import refuse
from services.router.candidates import ORDERS, Candidate, job_worst_case, within
from services.router.capabilities import Misfit, misfits, size_for
from services.router.catalog import Catalog, ModelEntry, Route, nearest
from services.router.degrading import nearest_size, split, without
from services.router.money import USD, Money
from services.router.pricing import Work
from services.router.specs import AUTO, GenerationSpec, JobOptions


@dataclass(frozen=True, slots=True)
class Prospect:
    """A candidate, and why a job would not try it now (empty when it would)."""

    candidate: Candidate
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A route that cannot draw the spec."""

    model: str
    provider: str
    misfits: tuple[Misfit, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What all routes of the model, or of every model, say to a spec."""

    prospects: tuple[Prospect, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to plan. seed_given: False when the mesh drew the seed. models: the key's allowlist; empty allows all.

    reserved: what a job may spend at most; dearer candidates are left out, and there may be none. None leaves none out.
    """

    spec: GenerationSpec
    options: JobOptions
    seed_given: bool = True
    models: frozenset[str] = frozenset()
    reserved: Money | None = None


class Observed(Protocol):
    """What is known of how fast routes are."""

    def p50_s(self, provider: str, model: str) -> float | None:
        """Median seconds of recent successful calls; None without any."""


class NothingObserved:
    """Knows nothing; FASTEST then goes by the catalog's timeouts."""

    def p50_s(self, provider: str, model: str) -> float | None:
        """Always None."""
        return None


OptionCheck = Callable[[str, Mapping[str, object]], Iterable[FieldViolation]]
"""The violations of one provider's `provider_options`: provider id, options by key."""


def no_options(provider: str, options: Mapping[str, object]) -> Iterator[FieldViolation]:
    """An `OptionCheck` for when no adapter has said what it takes: everything is refused."""
    for key in options:
        yield FieldViolation(f"spec.provider_options.{provider}.{key}", f"{provider} takes no options")


def _utc_today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


@dataclass(frozen=True)
class Planner:
    """Plans against one catalog. `today` says which models are past their sunset."""

    catalog: Catalog
    observed: Observed = field(default_factory=NothingObserved)
    check_options: OptionCheck = no_options
    today: Callable[[], datetime.date] = _utc_today

    def plan(self, request: PlanRequest) -> tuple[Candidate, ...]:
        """Candidates in the order to try them, at least one unless `reserved` is; only the first when fallback is off.

        Raises:
            NotFound: MODEL_NOT_FOUND. PermissionDenied: MODEL_NOT_ALLOWED.
            InvalidArgument: NO_CANDIDATE, naming the fields that no route takes; INVALID_FIELD for unknown names.
            FailedPrecondition: NO_CANDIDATE when what could draw it cannot be used now; MAX_COST_EXCEEDED.
        """
        survey = self.survey(request)
        if not survey.prospects:
            raise _no_candidate(request, survey.refusals)
        usable = [prospect.candidate for prospect in survey.prospects if not prospect.obstacle]
        if not usable:
            raise _none_usable(survey.prospects)
        planned = within(usable, request.options.max_cost)
        if request.reserved is not None:  # a goal may order them otherwise than when the job was reserved for
            planned = tuple(candidate for candidate in planned if candidate.worst_case <= request.reserved)
        return planned if request.options.routing.fallback else planned[:1]

    def survey(self, request: PlanRequest) -> Survey:
        """Every route that can draw the spec, usable ones first and in the order to try them, and those that cannot."""
        refuse(self._unknown_names(request))
        prospects, refusals = [], []
        for model, route in self._routes(request):
            found = (*_routing_misfits(request.options, model, route), *self._spec_misfits(request, model, route))
            dropped, left = split(found, request.options.routing.may_drop)
            if left:
                refusals.append(Refusal(model.id, route.provider, left))
            else:
                prospects.append(self._prospect(request.spec, model, route, dropped))
        order = ORDERS[request.options.routing.goal]
        prospects.sort(key=lambda p: (bool(p.obstacle), bool(p.candidate.dropped), order(p.candidate)))
        return Survey(tuple(prospects), tuple(refusals))

    def _routes(self, request: PlanRequest) -> Iterator[tuple[ModelEntry, Route]]:
        name, allowed = request.spec.model, request.models
        if name == AUTO:
            yield from ((model, route) for model, route in self.catalog.routes() if not allowed or model.id in allowed)
            return
        model = self.catalog.model(name)
        if allowed and name not in allowed:
            raise PermissionDenied(
                f"this key may not use model {name!r}", reason="MODEL_NOT_ALLOWED", metadata={"model": name}
            )
        yield from ((model, route) for route in model.routes)

    def _spec_misfits(self, request: PlanRequest, model: ModelEntry, route: Route) -> Iterator[Misfit]:
        version = request.spec.model_version
        if version and version not in model.versions:
            yield Misfit("spec.model_version", "has versions " + (", ".join(model.versions) or "that nobody can pin"))
        yield from misfits(
            request.spec, route.capabilities, seed_given=request.seed_given and request.spec.seed is not None
        )

    def _prospect(self, spec: GenerationSpec, model: ModelEntry, route: Route, dropped: tuple[str, ...]) -> Prospect:
        candidate = replace(self._candidate(without(spec, dropped), model, route), dropped=dropped)
        return Prospect(candidate, self.catalog.obstacle(model, route, self.today()))

    def _candidate(self, spec: GenerationSpec, model: ModelEntry, route: Route) -> Candidate:
        takes = route.capabilities
        size = size_for(spec, takes) or nearest_size(spec, takes)
        version = spec.model_version or model.default_version
        steps = spec.steps if spec.steps is not None else takes.default_steps
        work = Work(size, 1, steps, route.quality, len(spec.prompt.encode()) + len(spec.negative_prompt.encode()))
        return Candidate(
            provider=route.provider,
            account=self.catalog.account(self.catalog.providers[route.provider]),
            model=model.id,
            provider_model=route.pins.get(version, route.provider_model),
            version=version,
            size=size,
            steps=steps,
            quality=route.quality,
            count=spec.count,
            worst_case=job_worst_case(route.price, work, spec.count, takes.count_per_call),
            timeout_s=route.timeout_s,
            count_per_call=takes.count_per_call,
            capabilities=takes,
            price=route.price,
            prompt_bytes=work.prompt_bytes,
            quality_rank=model.quality_rank,
            p50_s=self.observed.p50_s(route.provider, model.id),
            keeps_size=spec.keeps_size,
        )

    def _unknown_names(self, request: PlanRequest) -> Iterator[FieldViolation]:
        routing, known = request.options.routing, self.catalog.providers
        named = {"options.routing.allow": routing.allow, "options.routing.deny": routing.deny}
        named["spec.provider_options"] = tuple(request.spec.provider_options)
        for path, names in named.items():
            for name in names:
                if name not in known:
                    near = " or ".join(nearest(name, list(known)))
                    yield FieldViolation(
                        path, f"there is no provider {name!r}" + (f"; did you mean {near}?" if near else "")
                    )
        for provider, options in request.spec.provider_options.items():
            if provider in known:
                yield from self.check_options(provider, options)
        max_cost = request.options.max_cost
        if max_cost is not None and max_cost.currency != USD:
            yield FieldViolation("options.max_cost.currency_code", f"the catalog's prices are in {USD}")


def _routing_misfits(options: JobOptions, model: ModelEntry, route: Route) -> Iterator[Misfit]:
    routing = options.routing
    if routing.allow and route.provider not in routing.allow:
        yield Misfit("options.routing.allow", "is not in it")
    if route.provider in routing.deny:
        yield Misfit("options.routing.deny", "is in it")
    missing = [strength for strength in routing.strengths if strength not in model.strengths]
    if missing:
        yield Misfit("options.routing.strengths", "lacks " + ", ".join(missing))


def _no_candidate(request: PlanRequest, refusals: Sequence[Refusal]) -> InvalidArgument:
    """Tells of the routes that came nearest: those with the fewest misfits."""
    fewest = min((len(refusal.misfits) for refusal in refusals), default=0)
    told: dict[str, dict[str, None]] = {}
    for refusal in refusals:
        if len(refusal.misfits) == fewest:
            for misfit in refusal.misfits:
                told.setdefault(misfit.field, {})[f"{refusal.model} on {refusal.provider} {misfit.takes}"] = None
    violations = [FieldViolation(path, "; ".join([*texts][:4])) for path, texts in told.items()]
    if not violations:
        violations = [FieldViolation("spec.model", "the key's models have no route in the catalog")]
    text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return InvalidArgument(
        f"nothing in the catalog can draw this: {text}", reason="NO_CANDIDATE", violations=violations
    )


def _none_usable(prospects: Sequence[Prospect]) -> FailedPrecondition:
    causes = dict.fromkeys(f"{p.candidate.model} on {p.candidate.provider}: {p.obstacle}" for p in prospects)
    return FailedPrecondition(
        "what could draw this cannot be used now: " + "; ".join([*causes][:4]), reason="NO_CANDIDATE"
    )
