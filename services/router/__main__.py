"""`python -m services.router api | worker`: reads the environment, builds the role, serves it, closes it in reverse."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack

from mesh import process, telemetry
from mesh.channel import ChannelConfig, check_connected, open_channel
from mesh.config import load
from mesh.db import DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.migrate import upgrade
from mesh.telemetry import TelemetryConfig
from services.router.api import Api, Outside
from services.router.catalog_file import load_catalog
from services.router.config import MIGRATIONS, ApiSettings, RouterSettings, WorkerSettings
from services.router.observing import Observations
from services.router.planning import Planner
from services.router.providers import capabilities_of, option_faults
from services.router.urls import StorageUrls
from services.router.worker_main import run_worker

SIGN_URLS = "/imagemesh.storage.v1.StorageService/SignUrls"


async def api(stopping: asyncio.Event) -> None:
    """One API process, until `stopping` is set."""
    settings = load(ApiSettings)
    async with AsyncExitStack() as closing:
        closing.enter_context(telemetry.start(_telemetry(settings, "router-api")))
        catalog = load_catalog(settings.catalog, os.environ)
        await upgrade(settings.database_url, MIGRATIONS)
        database = open_database(DatabaseConfig(settings.database_url, settings.database_pool))
        token = settings.mesh_token.get_secret_value()
        storage = open_channel(ChannelConfig(settings.storage_target, mesh_token=token, idempotent=(SIGN_URLS,)))
        bus = Bus(BusConfig(settings.nats_url, "router-api"))
        for close in (database.close, storage.close, bus.stop):
            closing.push_async_callback(close)
        observed = Observations(database, catalog)
        planner = Planner(catalog, observed, option_faults(capabilities_of(catalog)))
        checks = {"storage": lambda: check_connected(storage, "storage")}
        serving = Api(settings, Outside(database, bus, planner, StorageUrls(storage), observed, checks))
        await bus.on_signal("breaker.*", observed.heard)
        await bus.start()
        await serving.start()
        closing.push_async_callback(serving.stop)
        await stopping.wait()


async def worker(stopping: asyncio.Event) -> None:
    """One worker process, until `stopping` is set."""
    settings = load(WorkerSettings)
    with telemetry.start(_telemetry(settings, "router-worker")):
        await upgrade(settings.database_url, MIGRATIONS)
        await run_worker(settings, stopping)


def _telemetry(told: RouterSettings, service: str) -> TelemetryConfig:
    return TelemetryConfig(service, told.telemetry_dir, told.otlp_endpoint, told.trace_ratio, told.log_level)


if __name__ == "__main__":
    roles = {"api": api, "worker": worker}
    if len(sys.argv) != 2 or sys.argv[1] not in roles:
        raise SystemExit("say which role: api or worker")
    process.run(roles[sys.argv[1]])
