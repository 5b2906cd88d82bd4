"""The adapters, by the name that the catalog gives as a provider's `kind`. One file, one line, one test file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import grpc.aio
from pydantic import SecretStr

from mesh.errors import FieldViolation
from services.router import catalog as catalogs
from services.router.breaker import Breakers
from services.router.catalog import Catalog, ProviderEntry
from services.router.providers import (
    a1111,
    azure,
    bedrock,
    bfl_families,
    comfyui,
    fal,
    firefly_models,
    google_models,
    huggingface,
    ideogram_models,
    imagemesh,
    modelslab,
    nim,
    openai,
    replicate,
    stability,
)
from services.router.providers.a1111 import WebUi
from services.router.providers.accounts import Accounts, Member
from services.router.providers.azure import AzureImages
from services.router.providers.base import Account, Capabilities, Provider
from services.router.providers.bedrock import Bedrock
from services.router.providers.bfl import Bfl
from services.router.providers.comfyui import ComfyUi
from services.router.providers.fal import Fal
from services.router.providers.firefly import Firefly
from services.router.providers.google import Google
from services.router.providers.http import HttpClient, Sockets
from services.router.providers.huggingface import HuggingFace
from services.router.providers.ideogram import Ideogram
from services.router.providers.imagemesh import OwnEngine
from services.router.providers.modelslab import ModelsLab
from services.router.providers.nim import Nim
from services.router.providers.openai import OpenAIImages
from services.router.providers.pacing import Allowance, Paced
from services.router.providers.replicate import Replicate
from services.router.providers.slots import Share, Slots, alone
from services.router.providers.stability import Stability
from services.router.providers.watching import Degradations, Watched
from services.router.providers.wrappers import Limited, wrapped

UNBOUNDED = 256
"""Calls at once at a provider whose account sets no limit."""


@dataclass(frozen=True)
class Connections:
    """What adapters share."""

    http: HttpClient
    inference: grpc.aio.Channel
    degradations: Degradations | None = None
    """Where calls are watched; None: nobody watches."""
    workers: Share = alone
    """Among how many workers the accounts' limits are shared now."""
    sockets: Sockets | None = None
    """For vendors that tell over a WebSocket how far they are; None: nobody listens."""


@dataclass(frozen=True)
class Adapter:
    """How a kind of provider is opened, and what it can do as a given variant."""

    open: Callable[[Account, Connections], Provider]
    capabilities: Callable[[str], Capabilities]


class AccountError(Exception):
    """An account of the catalog that its adapter cannot use; the text names both and says why."""


ADAPTERS: Mapping[str, Adapter] = {
    "a1111": Adapter(lambda account, shared: WebUi(account, shared.http), a1111.capabilities),
    "azure": Adapter(lambda account, shared: AzureImages(account, shared.http), azure.capabilities),
    "bedrock": Adapter(lambda account, shared: Bedrock(account, shared.http), bedrock.capabilities),
    "bfl": Adapter(lambda account, shared: Bfl(account, shared.http), bfl_families.capabilities),
    "comfyui": Adapter(lambda account, shared: ComfyUi(account, shared.http, shared.sockets), comfyui.capabilities),
    "fal": Adapter(lambda account, shared: Fal(account, shared.http), fal.capabilities),
    "firefly": Adapter(lambda account, shared: Firefly(account, shared.http), firefly_models.capabilities),
    "google": Adapter(lambda account, shared: Google(account, shared.http), google_models.capabilities),
    "huggingface": Adapter(lambda account, shared: HuggingFace(account, shared.http), huggingface.capabilities),
    "ideogram": Adapter(lambda account, shared: Ideogram(account, shared.http), ideogram_models.capabilities),
    "imagemesh": Adapter(lambda account, shared: OwnEngine(account, shared.inference), imagemesh.capabilities),
    "nim": Adapter(lambda account, shared: Nim(account, shared.http), nim.capabilities),
    "openai": Adapter(lambda account, shared: OpenAIImages(account, shared.http), openai.capabilities),
    "replicate": Adapter(lambda account, shared: Replicate(account, shared.http), replicate.capabilities),
    "stability": Adapter(lambda account, shared: Stability(account, shared.http), stability.capabilities),
    "modelslab": Adapter(lambda account, shared: ModelsLab(account, shared.http), modelslab.capabilities),
}


def open_providers(
    catalog: Catalog, keys: Mapping[str, str], connections: Connections, breakers: Breakers
) -> dict[str, Provider]:
    """Every provider of the catalog that can be used, ready to be called, by id. `keys`: values by variable name.

    Raises:
        AccountError: an adapter cannot work with an account's settings or key.
    """
    opened = {}
    for entry in catalog.providers.values():
        if catalog.provider_obstacle(entry):
            continue
        usable = [account for account in entry.accounts if catalog.configured(account)]
        members = [_member(entry, account, keys, connections) for account in usable]
        opened[entry.id] = wrapped(Accounts(members), breakers)
    return opened


def _member(entry: ProviderEntry, chosen: catalogs.Account, keys: Mapping[str, str], shared: Connections) -> Member:
    """One account with its own limits."""
    most = chosen.max_concurrency or UNBOUNDED
    try:
        adapter = ADAPTERS[entry.kind].open(_account(entry, chosen, keys), shared)
    except ValueError as error:
        raise AccountError(f"providers.{entry.id}.accounts.{chosen.name}: {error}") from error
    watched = adapter if shared.degradations is None else Watched(adapter, shared.degradations)
    slots = Slots(most, shared.workers if chosen.max_concurrency else alone)
    paced = Paced(Limited(watched, slots), Allowance(chosen.requests_per_minute, shared.workers))
    return Member(chosen.name, paced, most, bool(chosen.dedicated))


def _account(entry: ProviderEntry, chosen: catalogs.Account, keys: Mapping[str, str]) -> Account:
    return Account(
        provider=entry.id,
        base_url=chosen.endpoint or entry.endpoint,
        api_key=SecretStr(keys.get(chosen.key_env, "")),
        variant=entry.variant,
        region=chosen.region,
        name=chosen.name,
        secrets={name: SecretStr(keys.get(variable, "")) for name, variable in chosen.extra_env.items()},
        settings=chosen.settings,
    )


def capabilities_of(catalog: Catalog) -> dict[str, Capabilities]:
    """What each supported provider's adapter can do, by provider id; opens nothing.

    Raises:
        ValueError: a provider's kind has no adapter, or its variant is unknown.
    """
    return {entry.id: _capabilities(entry) for entry in catalog.providers.values() if not entry.unsupported}


def _capabilities(entry: ProviderEntry) -> Capabilities:
    if entry.kind not in ADAPTERS:
        raise ValueError(f"provider {entry.id}: there is no adapter {entry.kind!r}; have {', '.join(ADAPTERS)}")
    try:
        return ADAPTERS[entry.kind].capabilities(entry.variant)
    except KeyError as error:
        raise ValueError(f"provider {entry.id}: {entry.kind} has no variant {entry.variant!r}") from error


def option_faults(
    able: Mapping[str, Capabilities],
) -> Callable[[str, Mapping[str, object]], Iterator[FieldViolation]]:
    """What is wrong with one provider's `provider_options`, for the planner."""

    def check(provider: str, options: Mapping[str, object]) -> Iterator[FieldViolation]:
        rules = able[provider].options if provider in able else {}
        for key, value in options.items():
            field = f"spec.provider_options.{provider}.{key}"
            if key not in rules:
                yield FieldViolation(field, f"{provider} takes " + (", ".join(rules) or "no options"))
            elif not rules[key].takes(value):
                yield FieldViolation(field, rules[key].description)

    return check
