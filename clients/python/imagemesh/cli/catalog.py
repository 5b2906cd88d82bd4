"""models, providers, quote: what can be drawn, by whom, at what price."""

from __future__ import annotations

import click

from imagemesh.cli.failures import FAILED, told
from imagemesh.cli.output import day, json_option, moment, money, plain, print_message, seconds, show, table
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
OUTCOMES = {
    catalog_service_pb2.CHECK_OUTCOME_UNSPECIFIED: "",
    catalog_service_pb2.CHECK_OUTCOME_PASSED: "passed",
    catalog_service_pb2.CHECK_OUTCOME_FAILED: "failed",
    catalog_service_pb2.CHECK_OUTCOME_NOT_OFFERED: "nothing to check",
}
USES = {"yes": "commercial use", "conditions": "commercial use under conditions", "no": "no commercial use"}


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
    columns = ("default size", "strengths", "served by", "price", "versions", "terms", "until", "why not")
    show(table("model", "available", *columns, rows=rows))


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def providers(context: click.Context, as_json: bool) -> None:
    """List the providers with their health, or check one."""
    if context.invoked_subcommand is None:
        _list_providers(context.obj, as_json)


@providers.command("check")
@click.argument("name")
@json_option
@click.pass_obj
def check_provider(session: Session, name: str, as_json: bool) -> None:
    """Make one cheap authenticated call at provider NAME with each of its accounts; nothing is drawn or spent."""
    request = catalog_service_pb2.CheckProviderRequest(provider_id=name)
    with session.client() as client, told():
        answer = client.call(client.catalog.CheckProvider, request)
    if as_json:
        print_message(answer)
    else:
        rows = [
            (found.account, OUTCOMES[found.outcome], found.told, seconds(found.duration)) for found in answer.accounts
        ]
        show(table("account", "result", "told", "took", rows=rows))
    if any(found.outcome == catalog_service_pb2.CHECK_OUTCOME_FAILED for found in answer.accounts):
        raise SystemExit(FAILED)


def _list_providers(session: Session, as_json: bool) -> None:
    with session.client() as client, told():
        answer = client.call(client.catalog.ListProviders, catalog_service_pb2.ListProvidersRequest(page_size=PAGE))
    if as_json:
        print_message(answer)
        return
    rows = [_provider_row(provider) for provider in answer.providers]
    columns = ("accounts", "data", "passes through", "last 15 minutes", "why not")
    show(table("provider", "state", "kind", *columns, rows=rows))


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
    columns = ("at most", "per picture", "counted per", "price from", "how", "lately", "leaves out", "why not")
    show(table("provider", "model", "size", *columns, rows=rows))


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
        ", ".join(_versions(model)),
        "; ".join(filter(None, (model.license, USES.get(model.commercial_use, "")))),
        _until(model),
        "; ".join(_obstacles(model)),
    )


def _versions(model: catalog_pb2.Model) -> list[str]:
    """The versions that jobs may pin, the one they get without first."""
    told = {version: version for version in (model.default_version, *model.versions) if version}
    for detail in model.version_details:
        notes = [f"{detail.canary_percent:g} % of tenants"] if detail.canary_percent else []
        notes += [f"until {day(detail.sunset_time)}"] if detail.HasField("sunset_time") else []
        told[detail.version] = f"{detail.version} ({', '.join(notes)})"
    return [*told.values()]


def _until(model: catalog_pb2.Model) -> str:
    """When it is switched off: by its maker, or by single providers."""
    if model.HasField("sunset_time"):
        return day(model.sunset_time)
    ending = [route for route in model.routes if route.HasField("sunset_time")]
    return ", ".join(f"{day(route.sunset_time)} with {route.provider}" for route in ending)


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
        "; ".join(_account(account) for account in provider.accounts),
        _data_terms(provider.data_terms),
        ", ".join(f"{provider.provider_id}:{passed.pattern}" for passed in provider.passthrough),
        "; ".join(_health(entry) for entry in provider.health),
        provider.unavailable_reason,
    )


def _account(account: catalog_pb2.ProviderAccount) -> str:
    """Its name and what is to be known of it."""
    notes = (account.region, "" if account.configured else "no key", account.dedicated)
    told = ", ".join(filter(None, notes))
    return f"{account.name} ({told})" if told else account.name


def _data_terms(terms: catalog_pb2.DataTerms) -> str:
    """Where the data goes, how long it stays, and whether it is trained on."""
    kept = terms.retention.ToSeconds() if terms.HasField("retention") else None
    told = [terms.residency] if terms.residency else []
    if kept is not None:
        told.append(_kept(kept))
    if terms.training:
        told.append("trained on")
    return ", ".join(told)


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
        UNITS[offer.price.unit],
        ", ".join(filter(None, (offer.price.source, offer.price.date))),
        offer.explanation,
        seconds(offer.p50) if offer.HasField("p50") else "",
        ", ".join(offer.dropped),
        "" if offer.available else offer.unavailable_reason,
    )


def _kept(seconds_kept: float) -> str:
    if not seconds_kept:
        return "not kept"
    unit, length = ("days", 86_400) if seconds_kept >= 86_400 else ("hours", 3600)
    return f"kept {seconds_kept / length:g} {unit}"
