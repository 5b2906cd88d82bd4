"""From a spec and its options to the candidates that could draw it, in the order to try them; or why there is none."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mesh.errors import FailedPrecondition, FieldViolation, InvalidArgument, MeshError, PermissionDenied
from mesh.validation import refuse
from services.router.candidates import ORDERS, Candidate, job_worst_case, within
from services.router.capabilities import Misfit, misfits, size_for
from services.router.catalog import Catalog, ModelEntry, Route, nearest
from services.router.degrading import nearest_size, split, without
from services.router.money import USD, Money
from services.router.pricing import Work
from services.router.specs import AUTO, GenerationSpec, JobOptions, Lane
from services.router.versions import VersionWish, allows_model, version_for


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
    """What to plan. seed_given: False when the mesh drew the seed. models: the key's allowlist, see `versions`.

    reserved: what a job may spend at most; dearer candidates are left out, and there may be none. None leaves none out.
    tenant: whose job it is. earlier: versions that the job's earlier orders asked for, by model.
    """

    spec: GenerationSpec
    options: JobOptions
    seed_given: bool = True
    models: frozenset[str] = frozenset()
    reserved: Money | None = None
    tenant: str = ""
    earlier: Mapping[str, str] = field(default_factory=dict)


class Observed(Protocol):
    """What is known of how fast routes are."""

    def p50_s(self, provider: str, model: str) -> float | None:
        """Median seconds of recent successful calls; None without any."""

    def p95_s(self, provider: str, model: str) -> float | None:
        """Seconds that 95 of 100 recent successful calls did not exceed; None without any."""


class NothingObserved:
    """Knows nothing; FASTEST then goes by the catalog's timeouts."""

    def p50_s(self, provider: str, model: str) -> float | None:
        """Always None."""
        return None

    def p95_s(self, provider: str, model: str) -> float | None:
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
        for model, version, route in self._routes(request):
            found = (*_routing_misfits(request.options, model, route), *self._spec_misfits(request, model, route))
            dropped, left = split(found, request.options.routing.may_drop)
            if left:
                refusals.append(Refusal(model.id, route.provider, left))
            else:
                candidate = self._candidate(request, model, version, route, dropped)
                prospects.append(Prospect(candidate, self.catalog.obstacle(model, route, self.today(), version)))
        order = ORDERS[request.options.routing.goal]
        prospects.sort(key=lambda p: (bool(p.obstacle), bool(p.candidate.dropped), order(p.candidate)))
        return Survey(tuple(prospects), tuple(refusals))

    def result_version(self, request: PlanRequest) -> str:
        """What a result depends on besides its spec: the model's version; with `auto` the whole catalog."""
        try:
            version = self._named(request)[1] if request.spec.model != AUTO else self.catalog.sha256
        except MeshError:  # planning tells it
            version = self.catalog.sha256
        return version

    def _routes(self, request: PlanRequest) -> Iterator[tuple[ModelEntry, str, Route]]:
        if request.spec.model != AUTO:
            model, version = self._named(request)
            yield from ((model, version, route) for route in model.routes)
            return
        for model in self.catalog.models.values():
            may = version_for(model, self._wish(request, model))
            if may is not None and allows_model(request.models, model.id):
                yield from ((model, may, route) for route in model.routes)

    def _named(self, request: PlanRequest) -> tuple[ModelEntry, str]:
        """The model that the spec names, and its version."""
        name = request.spec.model
        model = self.catalog.model(name)
        version = version_for(model, self._wish(request, model))
        if version is None or not allows_model(request.models, name):
            known = version is None and request.spec.model_version
            what = f"version {request.spec.model_version!r} of model {name!r}" if known else f"model {name!r}"
            raise PermissionDenied(f"this key may not use {what}", reason="MODEL_NOT_ALLOWED", metadata={"model": name})
        return model, version

    def _wish(self, request: PlanRequest, model: ModelEntry) -> VersionWish:
        return VersionWish(
            today=self.today(),
            pinned=request.spec.model_version,
            tenant=request.tenant,
            allowed=request.models,
            earlier=request.earlier.get(model.id, ""),
        )

    def _spec_misfits(self, request: PlanRequest, model: ModelEntry, route: Route) -> Iterator[Misfit]:
        version = request.spec.model_version
        if version and version not in model.versions:
            yield Misfit("spec.model_version", "has versions " + (", ".join(model.versions) or "that nobody can pin"))
        yield from misfits(
            request.spec,
            self.catalog.takes(model, route),
            seed_given=request.seed_given and request.spec.seed is not None,
        )

    def _candidate(
        self, request: PlanRequest, model: ModelEntry, version: str, route: Route, dropped: tuple[str, ...]
    ) -> Candidate:
        spec, takes = without(request.spec, dropped), route.capabilities
        work = Work(
            size=size_for(spec, takes) or nearest_size(spec, takes),
            steps=spec.steps if spec.steps is not None else takes.default_steps,
            quality=route.quality,
            prompt_bytes=len(spec.prompt.encode()) + len(spec.negative_prompt.encode()),
            inputs=len(spec.images) + len(spec.controls),
            operation=spec.operation.value,
            batch=route.batch and request.options.lane is Lane.BATCH,
        )
        return Candidate(
            provider=route.provider,
            account=self.catalog.account(self.catalog.providers[route.provider]),
            model=model.id,
            provider_model=route.pins.get(version, route.provider_model),
            version=version,
            size=work.size,
            steps=work.steps,
            quality=work.quality,
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
            dropped=dropped,
            inputs=work.inputs,
            operation=work.operation,
            batch=work.batch,
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
    missing = [strength for strength in routing.strengths if strength not in model.strengths | route.strengths]
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
