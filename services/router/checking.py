"""Asking a provider, with each of its accounts, whether it would take our orders. Nothing is drawn or spent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mesh.errors import FailedPrecondition, NotFound
from services.router.catalog import Catalog, nearest
from services.router.health import AccountCheck, CheckOutcome
from services.router.providers.base import Provider
from services.router.providers.errors import NothingToCheckError, ProviderError

CHECK_SECONDS = 15.0


@dataclass(frozen=True)
class Checks:
    """Checks the providers of a catalog. Opened providers by id; those without a key are not among them."""

    catalog: Catalog
    providers: Mapping[str, Provider] = field(default_factory=dict)

    async def check(self, provider_id: str) -> Sequence[AccountCheck]:
        """Every configured account of a provider, all at the same time.

        Raises:
            NotFound: PROVIDER_NOT_FOUND, with the nearest names. FailedPrecondition: NO_CANDIDATE, it cannot be used.
        """
        entry = self.catalog.providers.get(provider_id)
        if entry is None:
            near = " or ".join(nearest(provider_id, list(self.catalog.providers)))
            hint = f"; did you mean {near}?" if near else ""
            raise NotFound(f"there is no provider {provider_id!r} in the catalog{hint}", reason="PROVIDER_NOT_FOUND")
        obstacle = self.catalog.provider_obstacle(entry)
        if obstacle or provider_id not in self.providers:
            why = obstacle or "it is not opened here"
            raise FailedPrecondition(f"{provider_id} cannot be used: {why}", reason="NO_CANDIDATE")
        names = [account.name for account in entry.accounts if self.catalog.configured(account)]
        provider = self.providers[provider_id]
        return await asyncio.gather(*(_checked(name, provider.at(name)) for name in names))


async def _checked(account: str, provider: Provider) -> AccountCheck:
    began = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            outcome, told = CheckOutcome.PASSED, await provider.check()
    except NothingToCheckError:
        outcome, told = CheckOutcome.NOT_OFFERED, "the vendor has no call that costs nothing"
    except ProviderError as error:
        outcome, told = CheckOutcome.FAILED, error.message
    except TimeoutError:
        outcome, told = CheckOutcome.FAILED, f"no answer within {CHECK_SECONDS:g} s"
    return AccountCheck(account, outcome, told, time.monotonic() - began)
