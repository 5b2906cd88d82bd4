"""One API process, put together: connections, catalog, health, server; closed in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from mesh.channel import ChannelConfig, check_connected, open_channel
from mesh.db import DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.process import Background
from services.router.api import Api, Outside
from services.router.breaker import BreakerConfig, Breakers
from services.router.call_back_store import CallBackStore
from services.router.call_backs import CallBackAddresses
from services.router.catalog import Catalog
from services.router.catalog_file import CatalogError
from services.router.config import ApiSettings
from services.router.health_store import HealthStore
from services.router.hooks import Desk, Hooks, HooksConfig
from services.router.observing import Observations
from services.router.own_models import OwnModels
from services.router.peers.inference import InferencePeer
from services.router.planning import Planner
from services.router.providers import Connections, open_providers, option_faults
from services.router.providers.base import Capabilities, Provider
from services.router.providers.http import PooledHttpClient
from services.router.providers.routes import load_checked
from services.router.signals import BREAKER
from services.router.urls import StorageUrls

SIGN_URLS = "/imagemesh.storage.v1.StorageService/SignUrls"


async def run_api(settings: ApiSettings, environment: Mapping[str, str], stopping: asyncio.Event) -> None:
    """Serves until `stopping` is set. `environment`: where the catalog's keys are looked for.

    Raises:
        CatalogError: the catalog has faults, or the inference service answers and disagrees with it.
    """
    async with AsyncExitStack() as closing:
        catalog, able = load_checked(settings.catalog, environment)
        outside = await _open(settings, catalog, able, closing)
        outside = replace(outside, providers=_providers(settings, catalog, environment, closing))
        serving = Api(settings, outside)
        await outside.bus.start()
        await serving.start()
        closing.push_async_callback(serving.stop)
        hooks = _hooks(settings, outside)
        await hooks.start()
        closing.push_async_callback(hooks.stop)
        await stopping.wait()


async def _open(
    settings: ApiSettings, catalog: Catalog, able: Mapping[str, Capabilities], closing: AsyncExitStack
) -> Outside:
    token = settings.mesh_token.get_secret_value()
    database = open_database(DatabaseConfig(settings.database_url, settings.database_pool))
    storage = open_channel(ChannelConfig(settings.storage_target, token, idempotent=(SIGN_URLS,)))
    inference = open_channel(ChannelConfig(settings.inference_target, token))
    bus = Bus(BusConfig(settings.nats_url, "router-api"))
    for close in (database.close, storage.close, inference.close, bus.stop):
        closing.push_async_callback(close)
    own = OwnModels(catalog, InferencePeer(inference).models)
    faults = await own.compare()
    if faults:
        raise CatalogError(settings.catalog, faults)
    attempts = HealthStore(database)
    observed = Observations(attempts, catalog)
    await bus.on_signal(BREAKER + "*", observed.heard)
    for background in (Background("provider-health", attempts.watch), Background("own-models", own.watch)):
        background.start()
        closing.push_async_callback(background.stop)
    planner = Planner(replace(catalog, conflicts=own.reasons, own=own.takes), attempts, option_faults(able))
    checks = {"storage": lambda: check_connected(storage, "storage"), "catalog": own.check}
    return Outside(database, bus, planner, StorageUrls(storage), observed, checks=checks)


def _providers(
    settings: ApiSettings, catalog: Catalog, environment: Mapping[str, str], closing: AsyncExitStack
) -> Mapping[str, Provider]:
    """Providers to be checked and to verify call backs; nothing is ordered here."""
    http = PooledHttpClient()
    inference = open_channel(ChannelConfig(settings.inference_target, settings.mesh_token.get_secret_value()))
    for close in (http.close, inference.close):
        closing.push_async_callback(close)
    breakers = Breakers(BreakerConfig(), time.monotonic)
    return open_providers(catalog, environment, Connections(http, inference), breakers)


def _hooks(settings: ApiSettings, outside: Outside) -> Hooks:
    """The port for vendors' call backs."""
    addresses = CallBackAddresses(settings.mesh_token.get_secret_value(), settings.public_callback_url)
    desk = Desk(outside.providers, addresses, CallBackStore(outside.database).note, outside.bus.signal)
    return Hooks(HooksConfig(settings.host, settings.hooks_port), desk)
