"""The catalog: providers, the models they serve, and which of them can be used now. Read by `catalog_file`."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter
from pydantic.functional_validators import AfterValidator

from mesh.errors import NotFound
from services.router.capabilities import Capabilities
from services.router.pricing import Price

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,199}$")]
KeyName = Annotated[str, Field(pattern=r"^([A-Z][A-Z0-9_]*)?$")]
RequiredKeyName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]

CommercialUse = Literal["", "yes", "conditions", "no"]

_URL = TypeAdapter(HttpUrl)


def _url(text: str) -> str:
    if text:
        _URL.validate_python(text)
    return text


Url = Annotated[str, AfterValidator(_url)]


class Entry(BaseModel):
    """Frozen, and a key that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Account(Entry):
    """One account at a provider."""

    name: Name = "default"
    key_env: KeyName = ""
    """Environment variable that holds the key; empty: none is needed."""
    extra_env: Mapping[str, RequiredKeyName] = Field(default_factory=dict)
    """Environment variables of further secrets, by the name the adapter gives them (`client_secret`, …)."""
    settings: Mapping[str, str] = Field(default_factory=dict)
    """What else the adapter has to know and is no secret (`project`, …), as its docstring lists."""
    region: str = ""
    endpoint: Url = ""
    """Instead of the provider's."""
    max_concurrency: int = Field(0, ge=0)
    """Most calls at once, by all workers together; 0: unbounded."""
    requests_per_minute: int = Field(0, ge=0)
    """0: unbounded."""
    dedicated: str = Field("", max_length=200)
    """Capacity that is reserved for the account, for people, such as `2 provisioned units`."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Every environment variable that the account needs."""
        return (*filter(None, (self.key_env,)), *self.extra_env.values())


class DataTerms(Entry):
    """What a provider does with prompts and pictures."""

    residency: str = ""
    retention_s: int | None = Field(None, ge=0)
    """How long it keeps them, in seconds; None: not known."""
    training: bool = False


class Passthrough(Entry):
    """Models of a provider that the catalog does not list, and what they are taken to be.

    A job names one as `PROVIDER:MODEL`, such as `replicate:black-forest-labs/flux-dev`.
    """

    pattern: str = Field(min_length=1, max_length=200)
    """The provider's own names, with `*` for any text: `black-forest-labs/*`."""
    quality: str = Field("", max_length=40)
    timeout_s: float = Field(120.0, gt=0, le=3600)
    license: str = ""
    commercial_use: CommercialUse = ""
    capabilities: Capabilities
    price: Price
    """What is reserved whatever the model, and debited where the provider does not say what it charged."""


class ProviderEntry(Entry):
    """Somebody who draws pictures."""

    id: Name
    title: str = ""
    kind: Name
    """The adapter that speaks to it."""
    endpoint: Url = ""
    """Base address, up to and with the version; empty: the adapter's own."""
    variant: str = Field("", max_length=40)
    """Which of the adapter's dialects or surfaces it speaks; empty: the adapter's own."""
    accounts: tuple[Account, ...] = (Account(),)
    data_terms: DataTerms = DataTerms()
    passthrough: tuple[Passthrough, ...] = ()
    """The first pattern that matches counts."""
    enabled: bool = True
    unsupported: str = ""
    """Why nobody can use it; it is listed so that nobody asks."""


class Route(Entry):
    """One provider's way to serve a model."""

    provider: Name
    provider_model: Name
    """The provider's own name for the model."""
    pins: Mapping[str, Name] = Field(default_factory=dict)
    """The provider's own name for a version of the model, by version."""
    quality: str = Field("", max_length=40)
    """The provider's quality to ask for; also picks the price."""
    timeout_s: float = Field(120.0, gt=0, le=3600)
    """Longest time one call may take."""
    strengths: frozenset[Name] = frozenset()
    """What the model has with this provider besides its own, such as `commercial_indemnity`."""
    sunset: datetime.date | None = None
    """From this day on the provider does not serve it."""
    batch: bool = False
    """Whether the provider bills calls of the BATCH lane as batch calls, so that `batch_discount` applies."""
    capabilities: Capabilities
    price: Price


class Canary(Entry):
    """A new version that a part of the tenants gets where a job pins none."""

    version: Name
    percent: float = Field(ge=0, le=100)


class ModelEntry(Entry):
    """A model that jobs may name."""

    id: Name
    title: str = ""
    strengths: frozenset[Name] = frozenset()
    quality_rank: int = 0
    """For goal BEST; higher is better."""
    license: str = ""
    commercial_use: CommercialUse = ""
    """Whether results may be used commercially; empty: not known."""
    versions: tuple[Name, ...] = ()
    """Those that may be used, newest first; the first one that is no canary is the default. Empty: the provider
    decides."""
    canary: Canary | None = None
    sunset: datetime.date | None = None
    """From this day on the model is not used."""
    sunsets: Mapping[str, datetime.date] = Field(default_factory=dict)
    """From that day on the version is not used, by version."""
    routes: tuple[Route, ...] = Field(min_length=1)

    @property
    def default_version(self) -> str:
        """The version of a job that pins none, where no canary flies."""
        trial = "" if self.canary is None else self.canary.version
        return next((version for version in self.versions if version != trial), "")


PASSED_NAME = re.compile(r"(?!.*(\.\.|//))[A-Za-z0-9][A-Za-z0-9_.:/-]{0,150}")
"""Names that may go into a provider's address: no way up, no empty part."""


def passed_model(provider: str, name: str, allowed: Passthrough) -> ModelEntry:
    """A model that is not listed, as its provider's allowlist takes it to be."""
    route = Route(
        provider=provider,
        provider_model=name,
        quality=allowed.quality,
        timeout_s=allowed.timeout_s,
        capabilities=allowed.capabilities,
        price=allowed.price,
    )
    return ModelEntry(
        id=f"{provider}:{name}",
        title=name,
        license=allowed.license,
        commercial_use=allowed.commercial_use,
        routes=(route,),
    )


@dataclass(frozen=True)
class Catalog:
    """Everything of the file by id, in its order. `keys` names the account keys that are present, without values.

    conflicts: why own engines cannot serve a route, by model and provider. own: what their routes take now, where they
    have told. Both may change while the catalog is in use.
    """

    providers: Mapping[str, ProviderEntry]
    models: Mapping[str, ModelEntry]
    keys: frozenset[str] = frozenset()
    sha256: str = ""
    conflicts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    own: Mapping[tuple[str, str], Capabilities] = field(default_factory=dict)

    def model(self, model_id: str) -> ModelEntry:
        """The model.

        Raises:
            NotFound: reason MODEL_NOT_FOUND, with the nearest names.
        """
        if model_id in self.models:
            return self.models[model_id]
        passed = self._passed_through(model_id)
        if passed is not None:
            return passed
        near = nearest(model_id, [*self.models, "auto"])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise NotFound(
            f"there is no model {model_id!r} in the catalog{hint}",
            reason="MODEL_NOT_FOUND",
            metadata={"model": model_id, "nearest": ",".join(near)},
        )

    def _passed_through(self, model_id: str) -> ModelEntry | None:
        """The entry of a model that is not listed, where its provider may pass it through."""
        provider_id, _, name = model_id.partition(":")
        provider = self.providers.get(provider_id)
        if provider is None or not PASSED_NAME.fullmatch(name):
            return None
        allowed = next((each for each in provider.passthrough if fnmatchcase(name, each.pattern)), None)
        return None if allowed is None else passed_model(provider_id, name, allowed)

    def takes(self, model: ModelEntry, route: Route) -> Capabilities:
        """What the route takes now."""
        return self.own.get((model.id, route.provider), route.capabilities)

    def configured(self, account: Account) -> bool:
        """Whether every secret of the account is present, or none is needed."""
        return self.keys.issuperset(account.variables)

    def account(self, provider: ProviderEntry) -> Account | None:
        """The account to use: the first one that is configured."""
        return next((account for account in provider.accounts if self.configured(account)), None)

    def provider_obstacle(self, provider: ProviderEntry) -> str:
        """Why the provider cannot be used now; empty when it can."""
        if provider.unsupported:
            return provider.unsupported
        if not provider.enabled:
            return "switched off in the catalog"
        if self.account(provider) is None:
            missing = " or ".join(self._missing(account) for account in provider.accounts)
            return f"no key: set {missing}" if missing else "no account in the catalog"
        return ""

    def _missing(self, account: Account) -> str:
        return " and ".join(name for name in account.variables if name not in self.keys)

    def obstacle(self, model: ModelEntry, route: Route, today: datetime.date, version: str = "") -> str:
        """Why the route, or the version on it, cannot be used now; empty when it can."""
        for sunset, whose in ((model.sunset, "its maker"), (route.sunset, route.provider)):
            if sunset is not None and today >= sunset:
                return f"switched off by {whose} on {sunset.isoformat()}"
        sunset = model.sunsets.get(version)
        if sunset is not None and today >= sunset:
            return f"version {version} was switched off on {sunset.isoformat()}"
        obstacle = self.provider_obstacle(self.providers[route.provider])
        return obstacle or self.conflicts.get((model.id, route.provider), "")

    def unusable_models(self, provider: ProviderEntry) -> str:
        """Which models the provider's engines cannot serve as the catalog has them, and why; empty when all agree."""
        told = [f"{model}: {reason}" for (model, of), reason in self.conflicts.items() if of == provider.id]
        return "; ".join(sorted(told))

    def routes(self) -> Iterator[tuple[ModelEntry, Route]]:
        """Every route of every model, in the catalog's order."""
        for model in self.models.values():
            for route in model.routes:
                yield model, route


def nearest(name: str, names: Sequence[str]) -> list[str]:
    """Up to three names that look like it, the most alike first."""
    lowered = {known.lower(): known for known in names}
    return [lowered[match] for match in difflib.get_close_matches(name.lower()[:200], lowered, n=3, cutoff=0.4)]
