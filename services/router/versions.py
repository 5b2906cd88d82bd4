"""Which version of a model a job gets, and which models and versions an API key may use. Pure.

An allowlist's entry is a model's id, a model at one version (`gpt-image-2@2026-04-21`), or the beginning of ids with a
star (`replicate:*`). An empty allowlist allows everything.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from services.router.catalog import Canary, ModelEntry

BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class VersionWish:
    """pinned: the version the job names. tenant: whose job it is. allowed: the key's allowlist.

    earlier: the version that an earlier order of the same job asked for; empty: none did.
    """

    today: datetime.date
    pinned: str = ""
    tenant: str = ""
    allowed: Collection[str] = ()
    earlier: str = ""


def allows_model(allowed: Collection[str], model: str) -> bool:
    """Whether the allowlist has the model in any version."""
    return not allowed or any(_matches(entry.partition("@")[0], model) for entry in allowed)


def allows_version(allowed: Collection[str], model: str, version: str) -> bool:
    """Whether the allowlist has the model in this version."""
    return not allowed or any(
        _matches(name, model) and (not only or only == version)
        for name, _, only in (entry.partition("@") for entry in allowed)
    )


def version_for(model: ModelEntry, wish: VersionWish) -> str | None:
    """The version: as pinned, as ordered before, the canary's for its share of tenants, else the newest that is none.

    Versions that the key may not use or that are past their sunset are passed over, unless pinned; None when the key
    may use none of them. A pinned one that is past its sunset is told as an obstacle of the route.
    """
    if wish.pinned:
        return wish.pinned if allows_version(wish.allowed, model.id, wish.pinned) else None
    allowed = [each for each in _in_order(model, wish) if allows_version(wish.allowed, model.id, each)]
    usable = (each for each in allowed if each not in model.sunsets or wish.today < model.sunsets[each])
    return next(usable, allowed[0] if allowed else None)


def in_canary(tenant: str, model: str, canary: Canary) -> bool:
    """Whether the tenant gets the new version: always the same answer; a higher share only adds tenants."""
    digest = hashlib.sha256("\0".join((tenant, model, canary.version)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS < canary.percent * (BUCKETS / 100)


def _in_order(model: ModelEntry, wish: VersionWish) -> Iterator[str]:
    if wish.earlier in model.versions:
        yield wish.earlier
    canary = model.canary
    if canary is not None and in_canary(wish.tenant, model.id, canary):
        yield canary.version
    yield from (each for each in model.versions or ("",) if canary is None or each != canary.version)
    if canary is not None:
        yield canary.version  # for a key that may use nothing else


def _matches(entry: str, model: str) -> bool:
    return model.startswith(entry[:-1]) if entry.endswith("*") else model == entry
