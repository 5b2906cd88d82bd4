"""The catalog, health and offers as messages. Pure."""

from __future__ import annotations

import datetime

from google.protobuf import duration_pb2, timestamp_pb2
from imagemesh.router.v1 import catalog_pb2, catalog_service_pb2, job_pb2

from mesh.validation import Rule, length
from services.router import wire
from services.router.candidates import Candidate
from services.router.capabilities import Capabilities
from services.router.catalog import Account, Catalog, DataTerms, ModelEntry, Passthrough, ProviderEntry, Route
from services.router.health import AccountCheck, Health, RouteHealth
from services.router.money import USD
from services.router.planning import Prospect
from services.router.pricing import BasePrice
from services.router.quoting import explain

CHECK_RULES = (Rule("provider_id", length(1, 200), "name a provider of the catalog"),)
PAGE_RULES = (Rule("page_token", length(0, 1024), "use the token of the page before"),)


def model_to_proto(catalog: Catalog, model: ModelEntry, today: datetime.date) -> catalog_pb2.Model:
    """A model with its routes and whether each can be used on this day."""
    routes = [
        route_to_proto(route, catalog.takes(model, route), catalog.obstacle(model, route, today))
        for route in model.routes
    ]
    return catalog_pb2.Model(
        model_id=model.id,
        title=model.title,
        strengths=sorted(model.strengths),
        quality_rank=model.quality_rank,
        versions=model.versions,
        default_version=model.default_version,
        sunset_time=day_to_proto(model.sunset),
        routes=routes,
        license=model.license,
        available=any(route.available for route in routes),
        commercial_use=model.commercial_use,
        version_details=version_details(model),
    )


def version_details(model: ModelEntry) -> list[catalog_pb2.ModelVersion]:
    """The versions with a sunset of their own, and the canary."""
    shares = {} if model.canary is None else {model.canary.version: model.canary.percent}
    return [
        catalog_pb2.ModelVersion(
            version=version,
            sunset_time=day_to_proto(model.sunsets.get(version)),
            canary_percent=shares.get(version, 0),
        )
        for version in model.versions
        if version in shares or version in model.sunsets
    ]


def route_to_proto(route: Route, takes: Capabilities, obstacle: str) -> catalog_pb2.ModelRoute:
    """A route with what it takes now; `obstacle` says why it cannot be used, empty when it can."""
    return catalog_pb2.ModelRoute(
        provider=route.provider,
        provider_model=route.provider_model,
        capabilities=capabilities_to_proto(takes),
        price=price_to_proto(route.price),
        timeout=wire.duration_to_proto(route.timeout_s),
        available=not obstacle,
        unavailable_reason=obstacle,
        sunset_time=day_to_proto(route.sunset),
        strengths=sorted(route.strengths),
        batch=route.batch,
    )


def passthrough_to_proto(passed: Passthrough) -> catalog_pb2.Passthrough:
    """Models that are not listed, by pattern."""
    return catalog_pb2.Passthrough(
        pattern=passed.pattern,
        capabilities=capabilities_to_proto(passed.capabilities),
        price=price_to_proto(passed.price),
        timeout=wire.duration_to_proto(passed.timeout_s),
        license=passed.license,
        commercial_use=passed.commercial_use,
    )


def capabilities_to_proto(route: Capabilities) -> catalog_pb2.Capabilities:
    """Field by field; the edges are left out where sizes are listed."""
    edges = not route.sizes
    return catalog_pb2.Capabilities(
        operations=sorted(wire.enum_number(job_pb2.Operation, operation) for operation in route.operations),
        sizes=[wire.size_to_proto(size) for size in route.sizes],
        min_edge=route.min_edge if edges else 0,
        max_edge=route.max_edge if edges else 0,
        edge_step=route.edge_step if edges else 0,
        max_pixels=route.max_pixels,
        max_ratio=route.max_ratio,
        default_size=wire.size_to_proto(route.default_size),
        count_per_call=route.count_per_call,
        max_prompt=route.max_prompt,
        seed=route.seed,
        negative_prompt=route.negative_prompt,
        guidance=route.guidance,
        max_steps=route.max_steps,
        schedulers=route.schedulers,
        formats=route.formats,
        transparent_background=route.transparent_background,
        max_images=route.max_images,
        mask=route.mask,
        strength=route.strength,
        default_steps=route.default_steps,
        controls=sorted(route.controls),
        loras=sorted(route.loras),
        upscale_factors=route.upscale_factors,
        input_size=None if route.input_size is None else wire.size_to_proto(route.input_size),
    )


def price_to_proto(price: BasePrice) -> catalog_pb2.Price:
    """The price's entries as decimal strings, with source and day."""
    return catalog_pb2.Price(
        unit=wire.enum_number(catalog_pb2.PriceUnit, price.unit),
        batch_discount="" if price.batch_discount == "0" else price.batch_discount,
        entries=[catalog_pb2.PriceEntry(applies_to=applies_to, amount=amount) for applies_to, amount in price.lines()],
        source=price.source,
        date=price.date.isoformat(),
        currency=USD,
    )


def provider_to_proto(catalog: Catalog, provider: ProviderEntry, health: Health) -> catalog_pb2.Provider:
    """A provider with what is known of its health."""
    return catalog_pb2.Provider(
        provider_id=provider.id,
        title=provider.title,
        kind=provider.kind,
        state=wire.enum_number(catalog_pb2.ProviderState, _state(catalog, provider)),
        unavailable_reason=catalog.provider_obstacle(provider) or catalog.unusable_models(provider),
        accounts=[account_to_proto(account, catalog.configured(account)) for account in provider.accounts],
        data_terms=data_terms_to_proto(provider.data_terms),
        health=[
            health_to_proto(model, of_route)
            for (provider_id, model), of_route in sorted(health.items())
            if provider_id == provider.id
        ],
        etag=catalog.sha256[:16],
        passthrough=[passthrough_to_proto(passed) for passed in provider.passthrough],
    )


def account_to_proto(account: Account, configured: bool) -> catalog_pb2.ProviderAccount:
    """An account, without its key."""
    return catalog_pb2.ProviderAccount(
        name=account.name,
        region=account.region,
        configured=configured,
        max_concurrency=account.max_concurrency,
        requests_per_minute=account.requests_per_minute,
        dedicated=account.dedicated,
    )


def data_terms_to_proto(terms: DataTerms) -> catalog_pb2.DataTerms:
    """An unknown retention stays unset."""
    retention = None if terms.retention_s is None else wire.duration_to_proto(terms.retention_s)
    return catalog_pb2.DataTerms(residency=terms.residency, retention=retention, training=terms.training)


def health_to_proto(model: str, health: RouteHealth) -> catalog_pb2.ProviderHealth:
    """Times that nobody observed stay unset."""
    return catalog_pb2.ProviderHealth(
        model=model,
        breaker=wire.enum_number(catalog_pb2.BreakerState, health.breaker),
        retry_time=wire.time_to_proto(health.retry_time),
        p50=None if health.p50_s is None else wire.duration_to_proto(health.p50_s),
        p95=None if health.p95_s is None else wire.duration_to_proto(health.p95_s),
        error_rate=health.error_rate,
        calls=health.calls,
    )


def offer_to_proto(prospect: Prospect) -> catalog_pb2.Offer:
    """A candidate's price for the whole spec and per picture."""
    candidate = prospect.candidate
    return catalog_pb2.Offer(
        provider=candidate.provider,
        model=candidate.model,
        model_version=candidate.version,
        worst_case=wire.money_to_proto(candidate.worst_case),
        per_image=wire.money_to_proto(candidate.call_worst_case(1)),
        calls=len(candidate.calls()),
        size=wire.size_to_proto(candidate.size),
        explanation=explain(candidate),
        available=not prospect.obstacle,
        unavailable_reason=prospect.obstacle,
        p50=_p50(candidate),
        dropped=candidate.dropped,
        price=price_to_proto(candidate.price),
    )


def quote_to_proto(prospects: tuple[Prospect, ...]) -> catalog_service_pb2.QuoteResponse:
    """One offer per route that can draw the spec."""
    return catalog_service_pb2.QuoteResponse(offers=[offer_to_proto(prospect) for prospect in prospects])


def _p50(candidate: Candidate) -> duration_pb2.Duration | None:
    return None if candidate.p50_s is None else wire.duration_to_proto(candidate.p50_s)


def _state(catalog: Catalog, provider: ProviderEntry) -> str:
    if provider.unsupported:
        return "UNSUPPORTED"
    if not provider.enabled:
        return "DISABLED"
    return "ENABLED" if catalog.account(provider) is not None else "UNCONFIGURED"


def day_to_proto(day: datetime.date | None) -> timestamp_pb2.Timestamp | None:
    """The day's first instant in UTC; unset for None."""
    if day is None:
        return None
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return wire.time_to_proto(round(midnight.timestamp()) * wire.US_PER_SECOND)


def check_to_proto(found: AccountCheck) -> catalog_service_pb2.AccountCheck:
    """One account's check."""
    return catalog_service_pb2.AccountCheck(
        account=found.account,
        outcome=wire.enum_number(catalog_service_pb2.CheckOutcome, found.outcome.value),
        told=found.told,
        duration=wire.duration_to_proto(found.seconds),
    )
