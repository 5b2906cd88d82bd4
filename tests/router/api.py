"""A real router API on a free port, with a catalog, keys and stubs, for tests of its rpcs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from imagemesh.router.v1 import (
    api_key_service_pb2_grpc,
    catalog_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from imagemesh.storage.v1 import asset_pb2

from mesh.db import DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.ids import new_id
from services.router import keys
from services.router.api import Api, Outside
from services.router.attempt_store import AttemptStore
from services.router.catalog_file import load_catalog
from services.router.config import MIGRATIONS, ApiSettings
from services.router.keys import KeyTerms
from services.router.planning import Planner
from services.router.queue_store import QueueStore
from tests.router.stores import Stores
from tests.schemas import migrated

TOKEN = "a-mesh-token-of-tests"
NOWHERE = "nats://127.0.0.1:1"
CATALOG = """
providers:
  - {id: own, title: Own, kind: imagemesh}
  - {id: shop, title: Shop, kind: openai, endpoint: "https://shop.example/v1", variant: gpt-image}
models:
  - id: demo
    title: Demo
    routes:
      - provider: own
        provider_model: demo
        capabilities:
          {min_edge: 64, max_edge: 512, edge_step: 8, default_size: 64x64, count_per_call: 8, seed: true,
           negative_prompt: true, guidance: true, max_steps: 100, default_steps: 20}
        price: {unit: IMAGE, amounts: {"*": "0.01"}, source: test, date: 2025-01-01}
  - id: dear
    title: Dear
    routes:
      - provider: shop
        provider_model: dear-1
        capabilities: {sizes: [512x512], default_size: 512x512, count_per_call: 1}
        price: {unit: IMAGE, amounts: {"*": "2"}, source: test, date: 2025-01-01}
"""


class StubUrls:
    """Signs everything, unless `down`."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[list[str]] = []

    async def sign(self, tenant: str, asset_ids: Sequence[str]) -> Mapping[str, asset_pb2.SignedUrl]:
        self.calls.append(list(asset_ids))
        return (
            {} if self.down else {i: asset_pb2.SignedUrl(asset_id=i, url=f"https://s/{tenant}/{i}") for i in asset_ids}
        )


class RunningApi:
    """The API and what a test needs around it."""

    def __init__(self, api: Api, stores: Stores, urls: StubUrls) -> None:
        self.api = api
        self.stores = stores
        self.urls = urls
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{api.server.port}")
        self.jobs: Any = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.keys: Any = api_key_service_pb2_grpc.ApiKeyServiceStub(self.channel)
        self.catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(self.channel)
        self.usage: Any = usage_service_pb2_grpc.UsageServiceStub(self.channel)

    async def key(self, *roles: str, tenant: str = "acme", **terms: Any) -> tuple[tuple[str, str], ...]:
        """Metadata with a new key."""
        secret = keys.new_secret(new_id("key"))
        await self.api.keys.create(secret, KeyTerms(tenant, frozenset(roles or ("CALLER",)), **terms))
        return bearer(secret.text)


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret}"),)


INTERNAL = (*bearer(TOKEN), ("x-imagemesh-tenant", "acme"))


@asynccontextmanager
async def running_api(
    database_url: str, folder: Path, nats_url: str = NOWHERE, **settings: Any
) -> AsyncIterator[RunningApi]:
    catalog_file = folder / "catalog.yaml"
    catalog_file.write_text(CATALOG)
    await migrated(database_url, MIGRATIONS)
    database = open_database(DatabaseConfig(database_url))
    bus, urls = Bus(BusConfig(nats_url, "test")), StubUrls()
    values = {"watch_poll_seconds": 0.05, "drain_seconds": 1.0, **settings}
    chosen = ApiSettings(database_url=database_url, mesh_token=TOKEN, **values)
    api = Api(chosen, Outside(database, bus, Planner(load_catalog(catalog_file, {})), urls))
    await bus.start()
    await api.start()
    stores = Stores(database, api.jobs, QueueStore(database), AttemptStore(database), api.ledger)
    running = RunningApi(api, stores, urls)
    try:
        yield running
    finally:
        await running.channel.close()
        await api.stop()
        await bus.stop()
        await database.close()


def create(prompt: str = "a red circle", **fields: Any) -> job_service_pb2.CreateJobRequest:
    """A valid CreateJob; `spec_…` and `options_…` name fields of these."""
    request = job_service_pb2.CreateJobRequest(spec=job_pb2.GenerationSpec(prompt=prompt, model="demo"))
    parts = {"spec": request.spec, "options": request.options}
    for name, value in fields.items():
        head, _, field = name.partition("_")
        message = parts.get(head, request)
        message.MergeFrom(type(message)(**{field if head in parts else name: value}))
    return request


async def refused(call: Any) -> tuple[str, str, list[str]]:
    """The code, reason and violated fields that a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(_drained(call), 10)
    status = rpc_status.from_call(caught.value)
    assert isinstance(status, status_pb2.Status)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert [detail.Unpack(info) for detail in status.details if detail.Is(info.DESCRIPTOR)] == [True]
    for detail in status.details:
        if detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
    return caught.value.code().name, info.reason, [violation.field for violation in bad.field_violations]


async def _drained(call: Any) -> None:
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call
