"""models, providers, quote: what can be drawn, by whom, at what price."""

from __future__ import annotations

import click

from imagemesh.cli.failures import told
from imagemesh.cli.output import json_option, moment, money, plain, print_message, seconds, show, table
from imagemesh.cli.session import Session
from imagemesh.cli.wishes import options_of, wishes
from imagemesh.generation import to_job_options, to_spec
from imagemesh.router.v1 import catalog_pb2, catalog_service_pb2

PAGE = 200
UNITS = {
    catalog_pb2.PRICE_UNIT_UNSPECIFIED: "unit",
    catalog_pb2.PRICE_UNIT_IMAGE: "image",
    catalog_pb2.PRICE_UNIT_MEGAPIXEL: "megapixel",
    catalog_pb2.PRICE_UNIT_STEP: "step",
    catalog_pb2.PRICE_UNIT_SECOND: "second",
    catalog_pb2.PRICE_UNIT_TOKEN: "million tokens",
    catalog_pb2.PRICE_UNIT_GPU_SECOND: "GPU second",
}


@click.command()
@json_option
@click.pass_obj
def models(session: Session, as_json: bool) -> None:
    """List the models that the key may use."""
    with session.client() as client, told():
        answer = client.call(client.catalog.ListModels, catalog_service_pb2.ListModelsRequest(page_size=PAGE))
    if as_json:
        print_message(answer)
        return
    rows = [_model_row(model) for model in answer.models]
    show(table("model", "available", "default size", "strengths", "served by", "price", "why not", rows=rows))


@click.command()
@json_option
@click.pass_obj
def providers(session: Session, as_json: bool) -> None:
    """List the providers with their health."""
    with session.client() as client, told():
        answer = client.call(client.catalog.ListProviders, catalog_service_pb2.ListProvidersRequest(page_size=PAGE))
    if as_json:
        print_message(answer)
        return
    rows = [_provider_row(provider) for provider in answer.providers]
    show(table("provider", "state", "kind", "residency", "last 15 minutes", "why not", rows=rows))


@click.command()
@click.argument("prompt")
@wishes
@json_option
@click.pass_context
def quote(context: click.Context, prompt: str, as_json: bool) -> None:
    """Show what PROMPT would cost with each candidate; nothing is spent."""
    options = options_of(context)
    try:
        request = catalog_service_pb2.QuoteRequest(spec=to_spec(prompt, options), options=to_job_options(options))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with context.obj.client() as client, told():
        answer = client.call(client.catalog.Quote, request)
    if as_json:
        print_message(answer)
        return
    rows = [_offer_row(offer) for offer in answer.offers]
    show(table("provider", "model", "size", "at most", "per picture", "how", "lately", "why not", rows=rows))


def _model_row(model: catalog_pb2.Model) -> tuple[str, ...]:
    first = model.routes[0] if model.routes else catalog_pb2.ModelRoute()
    size = first.capabilities.default_size
    return (
        model.model_id,
        "yes" if model.available else "no",
        f"{size.width}×{size.height}" if size.width else "",
        ", ".join(model.strengths),
        ", ".join(route.provider for route in model.routes),
        _price(first.price),
        "; ".join(_obstacles(model)),
    )


def _obstacles(model: catalog_pb2.Model) -> list[str]:
    """Why the model's routes cannot be used, each reason once; nothing while one of them can."""
    return [] if model.available else list(dict.fromkeys(route.unavailable_reason for route in model.routes))


def _price(price: catalog_pb2.Price) -> str:
    """Every amount with what it applies to; `quote` shows what they come to."""
    if not price.entries:
        return ""
    return f"{', '.join(_amount(entry, price.currency) for entry in price.entries)} per {UNITS[price.unit]}"


def _amount(entry: catalog_pb2.PriceEntry, currency: str) -> str:
    what = plain(entry.applies_to.strip("*"), "")
    return f"{entry.amount} {currency}" + (f" ({what})" if what else "")


def _provider_row(provider: catalog_pb2.Provider) -> tuple[str, ...]:
    return (
        provider.provider_id,
        plain(catalog_pb2.ProviderState.Name(provider.state), "PROVIDER_STATE_"),
        provider.kind,
        provider.data_terms.residency,
        "; ".join(_health(entry) for entry in provider.health),
        provider.unavailable_reason,
    )


def _health(entry: catalog_pb2.ProviderHealth) -> str:
    """How calls went, and the breaker unless it lets every call through."""
    told = [f"{entry.calls} call{'s' * (entry.calls != 1)}, {entry.error_rate:.0%} failed"] if entry.calls else []
    if entry.HasField("p50"):
        told.append(f"half took at most {seconds(entry.p50)}")
    if entry.breaker == catalog_pb2.BREAKER_STATE_OPEN:
        told.append(f"not called until {moment(entry.retry_time)}, too many failures")
    elif entry.breaker == catalog_pb2.BREAKER_STATE_HALF_OPEN:
        told.append("being tried again after too many failures")
    return f"{entry.model}: {', '.join(told)}"


def _offer_row(offer: catalog_pb2.Offer) -> tuple[str, ...]:
    return (
        offer.provider,
        " ".join(filter(None, (offer.model, offer.model_version))),
        f"{offer.size.width}×{offer.size.height}" if offer.size.width else "",
        money(offer.worst_case),
        money(offer.per_image),
        offer.explanation,
        seconds(offer.p50) if offer.HasField("p50") else "",
        "" if offer.available else offer.unavailable_reason,
    )
