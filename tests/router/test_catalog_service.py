"""The catalog, quotes and usage over a real server, as a caller sees them."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format
from imagemesh.router.v1 import (
    catalog_pb2,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    usage_pb2,
    usage_service_pb2,
    usage_service_pb2_grpc,
)

from mesh.auth import Authenticator, Principal
from mesh.errors import Code, MeshError, Unauthenticated
from mesh.server import Server, ServerConfig
from mesh.status import from_rpc_error
from services.router.catalog_service import CatalogService
from services.router.checking import Checks
from services.router.health import AccountCheck, CheckOutcome, Health, RouteHealth
from services.router.ledger import Balance
from services.router.ledger_store import Entry, EntryFilter, UsageRange, UsageRow
from services.router.planning import Planner
from services.router.providers.errors import ErrorKind, NothingToCheckError, ProviderError
from services.router.usage_service import UsageService
from tests.router.catalogs import document, load, model, provider, route
from tests.router.rig import ScriptedProvider

TODAY = datetime.date(2026, 11, 20)
NOON_US = 1_795_176_000_000_000
KEYS = {
    "all": Principal("acme", "key_1", frozenset({"CALLER"})),
    "narrow": Principal("acme", "key_2", frozenset({"CALLER"}), models=("sketcher",)),
    "operator": Principal("ops", "key_3", frozenset({"OPERATOR"})),
}


class Verifier:
    async def verify(self, key: str) -> Principal:
        if key not in KEYS:
            raise Unauthenticated("no such key", reason="KEY_INVALID")
        return KEYS[key]


class SeenHealth:
    async def snapshot(self) -> Health:
        return {("acme", "painter"): RouteHealth("OPEN", 5_000_000, 1.5, 3.0, 0.25, 8)}


class Checkable(ScriptedProvider):
    """Has credits left."""

    async def check(self) -> str:
        return "12.50 credits left"


class Ledger:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def balance(self, budget_id: str) -> Balance | None:
        return Balance(cap=1_000_000, reserved=10, spent=20, held=30) if budget_id == "key_1" else None

    async def entries(self, wanted: EntryFilter, after: str, limit: int) -> list[Entry]:
        self.asked.append(wanted)
        names = [f"led_{number}" for number in range(5, 0, -1) if not after or f"led_{number}" < after]
        return [
            Entry(name, "acme", "key_1", "", "job_1", "", "DEBIT", 7, 1, "painter", "acme", 1, NOON_US)
            for name in names[:limit]
        ]

    async def usage(self, wanted: UsageRange, group_by: Any) -> list[UsageRow]:
        self.asked.append((wanted, tuple(group_by)))
        return [UsageRow((20_412,), 2, 3, 40_000)] if group_by else [UsageRow((), 2, 3, 40_000)]


class Bounds:
    async def limits(self, tenant: str) -> dict[str, tuple[int, int]]:
        return {"queued_jobs": (100, 4)}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def channel(tmp_path: Path, ledger: Ledger) -> AsyncIterator[grpc.aio.Channel]:
    catalog = load(
        tmp_path,
        document(
            [provider("acme"), provider("keyless", accounts=[{"key_env": "KEYLESS_KEY"}])],
            [model("painter", route("keyless"), route("acme")), model("sketcher", route("acme", "0.001"))],
        ),
    )
    server = Server(ServerConfig(drain_seconds=0.1), Authenticator("mesh-token-of-the-tests", Verifier()))
    planner = Planner(catalog, today=lambda: TODAY)
    for module, servicer, register in (
        (
            catalog_service_pb2,
            CatalogService(planner, SeenHealth(), Checks(catalog, {"acme": Checkable("acme")})),
            catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server,
        ),
        (
            usage_service_pb2,
            UsageService(ledger, Bounds(), lambda: NOON_US),
            usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
        ),
    ):
        (descriptor,) = module.DESCRIPTOR.services_by_name.values()
        server.add(descriptor, servicer, register)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as opened:
        yield opened
    await server.stop()


def as_key(name: str = "all") -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}"),)


async def refused(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return from_rpc_error(error.value, "router")


@pytest.fixture
def catalog_stub(channel: grpc.aio.Channel) -> Any:
    return catalog_service_pb2_grpc.CatalogServiceStub(channel)


@pytest.fixture
def usage_stub(channel: grpc.aio.Channel) -> Any:
    return usage_service_pb2_grpc.UsageServiceStub(channel)


async def test_models_come_in_pages_by_id(catalog_stub: Any) -> None:
    first = await catalog_stub.ListModels(catalog_service_pb2.ListModelsRequest(page_size=1), metadata=as_key())
    second = await catalog_stub.ListModels(
        catalog_service_pb2.ListModelsRequest(page_size=1, page_token=first.next_page_token), metadata=as_key()
    )
    assert [m.model_id for m in (*first.models, *second.models)] == ["painter", "sketcher"]
    assert second.next_page_token == ""
    keyless, acme = first.models[0].routes
    assert (keyless.available, keyless.unavailable_reason) == (False, "no key: set KEYLESS_KEY")
    assert (acme.available, first.models[0].available) == (True, True)
    assert acme.price.unit == catalog_pb2.PRICE_UNIT_IMAGE
    assert [(e.applies_to, e.amount) for e in acme.price.entries] == [("*", "0.02")]


async def test_a_token_of_another_list_is_refused(catalog_stub: Any) -> None:
    first = await catalog_stub.ListModels(catalog_service_pb2.ListModelsRequest(page_size=1), metadata=as_key())
    request = catalog_service_pb2.ListProvidersRequest(page_token=first.next_page_token)
    assert (await refused(catalog_stub.ListProviders(request, metadata=as_key()))).reason == "PAGE_TOKEN_INVALID"


async def test_a_key_sees_the_models_it_may_use(catalog_stub: Any) -> None:
    listed = await catalog_stub.ListModels(catalog_service_pb2.ListModelsRequest(), metadata=as_key("narrow"))
    assert [m.model_id for m in listed.models] == ["sketcher"]


async def test_providers_tell_their_state_and_health(catalog_stub: Any) -> None:
    listed = await catalog_stub.ListProviders(catalog_service_pb2.ListProvidersRequest(), metadata=as_key())
    acme, keyless = listed.providers
    assert acme.state == catalog_pb2.PROVIDER_STATE_ENABLED
    assert keyless.state == catalog_pb2.PROVIDER_STATE_UNCONFIGURED
    assert keyless.unavailable_reason == "no key: set KEYLESS_KEY"
    (health,) = acme.health
    assert (health.model, health.breaker, health.calls) == ("painter", catalog_pb2.BREAKER_STATE_OPEN, 8)
    assert (health.p50.ToMilliseconds(), health.p95.ToMilliseconds()) == (1500, 3000)
    assert health.retry_time.seconds == 5
    assert len(keyless.health) == 0


def quote(spec: dict[str, Any], options: dict[str, Any] | None = None) -> catalog_service_pb2.QuoteRequest:
    body = {"spec": {"prompt": "a cat", **spec}, "options": options or {}}
    return json_format.ParseDict(body, catalog_service_pb2.QuoteRequest())


async def test_a_quote_prices_every_candidate(catalog_stub: Any) -> None:
    answer = await catalog_stub.Quote(quote({"count": 6, "model": "painter"}), metadata=as_key())
    acme, keyless = answer.offers
    assert (acme.provider, acme.available, acme.calls) == ("acme", True, 2)
    assert (acme.worst_case.nanos, acme.per_image.nanos) == (120_000_000, 20_000_000)
    assert (keyless.provider, keyless.available) == ("keyless", False)


QUOTE_REFUSALS = [
    ({"model": "paintr"}, "all", Code.NOT_FOUND, "MODEL_NOT_FOUND"),
    ({"model": "painter"}, "narrow", Code.PERMISSION_DENIED, "MODEL_NOT_ALLOWED"),
    ({"prompt": ""}, "all", Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    ({"size": {"width": 64, "height": 64}}, "all", Code.INVALID_ARGUMENT, "NO_CANDIDATE"),
    ({"style": "ink"}, "all", Code.UNIMPLEMENTED, "NOT_IMPLEMENTED"),
    ({}, "stranger", Code.UNAUTHENTICATED, "KEY_INVALID"),
]


@pytest.mark.parametrize(("spec", "key", "code", "reason"), QUOTE_REFUSALS)
async def test_a_quote_is_refused_as_a_job_would_be(
    catalog_stub: Any, spec: dict[str, Any], key: str, code: Code, reason: str
) -> None:
    error = await refused(catalog_stub.Quote(quote(spec), metadata=as_key(key)))
    assert (error.code, error.reason) == (code, reason)


async def test_the_nearest_names_are_in_the_metadata(catalog_stub: Any) -> None:
    error = await refused(catalog_stub.Quote(quote({"model": "paintr"}), metadata=as_key()))
    assert error.metadata["nearest"].split(",")[0] == "painter"


async def test_what_is_for_later_says_so_to_those_who_may_call_it(catalog_stub: Any) -> None:
    request = catalog_service_pb2.ReloadCatalogRequest()
    assert (await refused(catalog_stub.ReloadCatalog(request, metadata=as_key("operator")))).reason == "NOT_IMPLEMENTED"
    assert (await refused(catalog_stub.ReloadCatalog(request, metadata=as_key()))).reason == "ROLE_NOT_ALLOWED"


async def test_limits_of_the_calling_key(usage_stub: Any) -> None:
    limits = await usage_stub.GetLimits(usage_service_pb2.GetLimitsRequest(), metadata=as_key())
    assert [(limit.name, limit.limit, limit.used) for limit in limits.limits] == [("queued_jobs", 100, 4)]
    assert (limits.spend_cap.units, limits.spent.nanos, limits.reserved.nanos, limits.held.nanos) == (
        1,
        20_000,
        10_000,
        30_000,
    )
    without = await usage_stub.GetLimits(usage_service_pb2.GetLimitsRequest(), metadata=as_key("narrow"))
    assert not without.HasField("spend_cap")


async def test_the_ledger_comes_in_pages(usage_stub: Any, ledger: Ledger) -> None:
    request = usage_service_pb2.ListLedgerEntriesRequest(page_size=2, kind=usage_pb2.LEDGER_ENTRY_KIND_DEBIT)
    seen = []
    while True:
        page = await usage_stub.ListLedgerEntries(request, metadata=as_key())
        seen += [entry.entry_id for entry in page.entries]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert seen == ["led_5", "led_4", "led_3", "led_2", "led_1"]
    assert ledger.asked[0] == EntryFilter("acme", kind="DEBIT")


async def test_a_token_belongs_to_its_filter(usage_stub: Any) -> None:
    request = usage_service_pb2.ListLedgerEntriesRequest(page_size=2)
    request.page_token = (await usage_stub.ListLedgerEntries(request, metadata=as_key())).next_page_token
    request.job_id = "job_2"
    assert (await refused(usage_stub.ListLedgerEntries(request, metadata=as_key()))).reason == "PAGE_TOKEN_INVALID"


async def test_usage_is_of_this_month_by_default(usage_stub: Any, ledger: Ledger) -> None:
    answer = await usage_stub.GetUsage(usage_service_pb2.GetUsageRequest(), metadata=as_key())
    ((wanted, group_by),) = ledger.asked
    first = datetime.date(1970, 1, 1) + datetime.timedelta(days=wanted.first_day)
    last = datetime.date(1970, 1, 1) + datetime.timedelta(days=wanted.last_day)
    assert (first.isoformat(), last.isoformat(), group_by) == ("2026-11-01", "2026-11-20", ())
    (row,) = answer.rows
    assert (row.group, row.jobs, row.images, row.debit.nanos) == ("", 2, 3, 40_000_000)


async def test_usage_by_day(usage_stub: Any, ledger: Ledger) -> None:
    request = json_format.ParseDict(
        {
            "range": {"startTime": "2025-11-20T10:00:00Z", "endTime": "2025-11-21T00:00:00Z"},
            "groupBy": "USAGE_GROUP_DAY",
        },
        usage_service_pb2.GetUsageRequest(),
    )
    answer = await usage_stub.GetUsage(request, metadata=as_key())
    assert [row.group for row in answer.rows] == ["2025-11-20"]
    ((wanted, group_by),) = ledger.asked
    assert (wanted.first_day, wanted.last_day, group_by) == (20_412, 20_412, ("day",))


@pytest.mark.parametrize(
    "body",
    [
        {"range": {"startTime": "2026-11-20T00:00:00Z", "endTime": "2026-11-19T00:00:00Z"}},
        {"range": {"startTime": "2020-01-01T00:00:00Z"}},
        {"groupBy": 77},
    ],
)
async def test_a_wrong_range_or_group_is_refused(usage_stub: Any, body: dict[str, Any]) -> None:
    request = json_format.ParseDict(body, usage_service_pb2.GetUsageRequest())
    assert (await refused(usage_stub.GetUsage(request, metadata=as_key()))).reason == "INVALID_FIELD"


async def test_a_check_tells_what_the_vendor_told(channel: grpc.aio.Channel) -> None:
    stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
    request = catalog_service_pb2.CheckProviderRequest(provider_id="acme")
    answer = await stub.CheckProvider(request, metadata=as_key("operator"))
    (found,) = answer.accounts
    assert (found.account, found.told) == ("default", "12.50 credits left")
    assert found.outcome == catalog_service_pb2.CHECK_OUTCOME_PASSED


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("acmee", "PROVIDER_NOT_FOUND", "did you mean acme"),
        ("keyless", "NO_CANDIDATE", "set KEYLESS_KEY"),
        ("", "INVALID_FIELD", "provider_id"),
    ],
)
async def test_what_cannot_be_checked_is_told_why(channel: grpc.aio.Channel, name: str, reason: str, says: str) -> None:
    stub = catalog_service_pb2_grpc.CatalogServiceStub(channel)
    call = stub.CheckProvider(catalog_service_pb2.CheckProviderRequest(provider_id=name), metadata=as_key("operator"))
    error = await refused(call)
    assert error.reason == reason
    assert says in error.message


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (ProviderError(ErrorKind.AUTHENTICATION, "the key is not accepted"), CheckOutcome.FAILED),
        (NothingToCheckError("acme"), CheckOutcome.NOT_OFFERED),
    ],
)
async def test_a_failed_check_is_an_answer(tmp_path: Path, failure: ProviderError, outcome: CheckOutcome) -> None:
    class Failing(ScriptedProvider):
        async def check(self) -> str:
            raise failure

    catalog = load(tmp_path, document([provider("acme")], [model("painter", route("acme"))]))
    (found,) = await Checks(catalog, {"acme": Failing("acme")}).check("acme")
    assert isinstance(found, AccountCheck)
    assert found.outcome is outcome
