"""The RPC edge of the catalog: decode, look up, encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagemesh.router.v1 import catalog_service_pb2 as pb
from imagemesh.router.v1 import catalog_service_pb2_grpc

from mesh.auth import Principal, principal
from mesh.errors import unimplemented
from mesh.paging import decode_token, encode_token, page_size
from mesh.validation import check
from services.router import quoting
from services.router.checking import Checks
from services.router.health import ProviderHealth
from services.router.planning import Planner, PlanRequest
from services.router.versions import allows_model
from services.router.wire_catalog import (
    CHECK_RULES,
    PAGE_RULES,
    check_to_proto,
    model_to_proto,
    provider_to_proto,
    quote_to_proto,
)
from services.router.wire_job import read_creation

Listing = pb.ListModelsRequest | pb.ListProvidersRequest


class CatalogService(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Models, providers, quotes."""

    def __init__(self, planner: Planner, health: ProviderHealth, checks: Checks) -> None:
        self._planner = planner
        self._health = health
        self._checks = checks

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """The models that the key may use, by id."""
        catalog, today = self._planner.catalog, self._planner.today()
        allowed = allowlist(principal())
        ids, token = page([name for name in catalog.models if allows_model(allowed, name)], request, "models")
        return pb.ListModelsResponse(
            models=[model_to_proto(catalog, catalog.models[name], today) for name in ids], next_page_token=token
        )

    async def ListProviders(self, request: pb.ListProvidersRequest, context: Any) -> pb.ListProvidersResponse:
        """The providers with their health, by id."""
        catalog = self._planner.catalog
        ids, token = page(list(catalog.providers), request, "providers")
        health = await self._health.snapshot()
        return pb.ListProvidersResponse(
            providers=[provider_to_proto(catalog, catalog.providers[name], health) for name in ids],
            next_page_token=token,
        )

    async def Quote(self, request: pb.QuoteRequest, context: Any) -> pb.QuoteResponse:
        """What a spec costs on every candidate."""
        spec, options = read_creation(request)
        wanted = PlanRequest(spec, options, models=allowlist(principal()), tenant=principal().tenant)
        return quote_to_proto(quoting.offers(self._planner, wanted))

    async def CheckProvider(self, request: pb.CheckProviderRequest, context: Any) -> pb.CheckProviderResponse:
        """Whether a provider would take our orders."""
        check(request, CHECK_RULES)
        found = await self._checks.check(request.provider_id)
        return pb.CheckProviderResponse(accounts=[check_to_proto(account) for account in found])

    async def SetProviderState(self, request: pb.SetProviderStateRequest, context: Any) -> pb.SetProviderStateResponse:
        """For later."""
        raise unimplemented("CatalogService.SetProviderState", "set `enabled` in the catalog file and restart")

    async def ReloadCatalog(self, request: pb.ReloadCatalogRequest, context: Any) -> pb.ReloadCatalogResponse:
        """For later."""
        raise unimplemented("CatalogService.ReloadCatalog", "restart the router to read the catalog file again")


def allowlist(caller: Principal) -> frozenset[str]:
    """The models of the caller's key, see `versions`."""
    return frozenset(caller.models)


def page(names: Sequence[str], request: Listing, scope: str) -> tuple[list[str], str]:
    """One page of names in alphabetical order, and the token of the next one (empty at the end)."""
    check(request, PAGE_RULES)
    size = page_size(request.page_size)
    after = str(decode_token(request.page_token, scope)[0]) if request.page_token else ""
    rest = sorted(name for name in names if name > after)
    found = rest[:size]
    return found, encode_token((found[-1],), scope) if len(rest) > size else ""
