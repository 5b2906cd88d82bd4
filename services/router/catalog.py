"""The catalog: providers, the models they serve, and which of them can be used now. Read by `catalog_file`."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter
from pydantic.functional_validators import AfterValidator

from mesh.errors import NotFound
from services.router.capabilities import Capabilities
from services.router.pricing import Price

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,199}$")]
KeyName = Annotated[str, Field(pattern=r"^([A-Z][A-Z0-9_]*)?$")]
RequiredKeyName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]

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
    """Most calls at once; 0: unbounded."""
    requests_per_minute: int = Field(0, ge=0)
    """0: unbounded."""

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
    capabilities: Capabilities
    price: Price


class ModelEntry(Entry):
    """A model that jobs may name."""

    id: Name
    title: str = ""
    strengths: frozenset[Name] = frozenset()
    quality_rank: int = 0
    """For goal BEST; higher is better."""
    license: str = ""
    versions: tuple[Name, ...] = ()
    """Newest first; the first one is the default. Empty: the provider decides."""
    sunset: datetime.date | None = None
    """From this day on the model is not used."""
    routes: tuple[Route, ...] = Field(min_length=1)

    @property
    def default_version(self) -> str:
        """The version of a job that pins none."""
        return self.versions[0] if self.versions else ""


@dataclass(frozen=True)
class Catalog:
    """Everything of the file by id, in its order. `keys` names the account keys that are present, without values.

    conflicts: why own engines cannot serve a route, by model and provider; it may change while the catalog is in use.
    """

    providers: Mapping[str, ProviderEntry]
    models: Mapping[str, ModelEntry]
    keys: frozenset[str] = frozenset()
    sha256: str = ""
    conflicts: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def model(self, model_id: str) -> ModelEntry:
        """The model.

        Raises:
            NotFound: reason MODEL_NOT_FOUND, with the nearest names.
        """
        if model_id in self.models:
            return self.models[model_id]
        near = nearest(model_id, [*self.models, "auto"])
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise NotFound(
            f"there is no model {model_id!r} in the catalog{hint}",
            reason="MODEL_NOT_FOUND",
            metadata={"model": model_id, "nearest": ",".join(near)},
        )

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

    def obstacle(self, model: ModelEntry, route: Route, today: datetime.date) -> str:
        """Why the route cannot be used now; empty when it can."""
        if model.sunset is not None and today >= model.sunset:
            return f"switched off by its maker on {model.sunset.isoformat()}"
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
