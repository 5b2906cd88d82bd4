"""One worker process, put together: connections, providers, pipeline, queue; closed in reverse."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import grpc.aio

from mesh.auth import Authenticator
from mesh.channel import ChannelConfig, check_connected, open_channel
from mesh.db import Database, DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.ids import new_id
from mesh.process import Background
from mesh.server import Server, ServerConfig
from services.router.attempt_store import AttemptStore
from services.router.breaker import BreakerConfig, BreakerKey, Breakers
from services.router.cache_store import CacheStore
from services.router.call_backs import SIGNAL as CALL_BACK
from services.router.call_backs import CallBackAddresses
from services.router.catalog import Catalog
from services.router.choices import Choice
from services.router.config import WorkerSettings
from services.router.delivery import Delivery, Hoard
from services.router.fallback import Fallback
from services.router.health_store import HealthStore
from services.router.holds import Parts, WorkerConfig
from services.router.inputs import Inputs, UrlFetcher
from services.router.job_store import JobStore
from services.router.judging import DECIDED, Judge
from services.router.key_store import KeyStore
from services.router.orders import Ordering, Orders
from services.router.peers.moderation import ModerationPeer
from services.router.peers.storage import StoragePeer
from services.router.pipeline import Parts as PipelineParts
from services.router.pipeline import Pipeline, StepHook, no_hook, pause_where_told
from services.router.planning import Planner
from services.router.presence import SUBJECT as WORKER
from services.router.presence import Presence
from services.router.providers import Connections, capabilities_of, open_providers, option_faults
from services.router.providers.base import Provider
from services.router.providers.http import PooledHttpClient
from services.router.providers.routes import load_checked
from services.router.providers.warming import Warmer
from services.router.providers.watching import Degradations
from services.router.queue_store import QueueStore
from services.router.results import Results
from services.router.runs import RunSource
from services.router.signals import BREAKER, BreakerTalk, EventWriter, Teller
from services.router.worker import Worker

IDEMPOTENT_STORAGE = tuple(
    f"/imagemesh.storage.v1.StorageService/{name}" for name in ("CopyAsset", "PublishAsset", "BlockAsset", "GetAsset")
)
IDEMPOTENT_MODERATION = tuple(
    f"/imagemesh.moderation.v1.ModerationService/{name}" for name in ("ModeratePrompt", "ModerateImage")
)


@dataclass(frozen=True)
class Outside:
    """What a worker reaches out to; opened and closed by whoever builds it."""

    database: Database
    bus: Bus
    storage: grpc.aio.Channel
    moderation: grpc.aio.Channel
    providers: Mapping[str, Provider]
    catalog: Catalog
    breakers: Breakers
    teller: Teller
    presence: Presence
    events: EventWriter
    warmer: Warmer
    observed: HealthStore
    addresses: CallBackAddresses
    fetcher: UrlFetcher = field(default_factory=UrlFetcher)


async def run_worker(settings: WorkerSettings, stopping: asyncio.Event) -> None:
    """Works until `stopping` is set."""
    async with AsyncExitStack() as closing:
        outside = await _open(settings, closing)
        worker = Worker(_config(settings), worker_parts(outside, _hook(settings), settings.lease_seconds))
        await _listen(outside, worker)
        await outside.bus.start()
        watches = {
            "observe": outside.observed.watch,
            "presence": outside.presence.watch,
            "events": outside.events.write,
        }
        for name, watch in watches.items():
            watching = Background(name, watch)
            watching.start()
            closing.push_async_callback(watching.stop)
        health = _health(settings, outside)
        await health.start()
        closing.push_async_callback(health.stop)
        await worker.run(stopping)


def worker_parts(outside: Outside, on_step: StepHook = no_hook, lease_s: float = 15.0) -> Parts:
    """The worker's parts over the outside."""
    queue = QueueStore(outside.database)
    parts = _pipeline_parts(outside, queue, lease_s)
    pipeline = Pipeline(parts, on_step)
    runs = RunSource(time.monotonic)
    return Parts(queue, pipeline, runs, time.monotonic, outside.teller.tell, parts.orders.called_back)


def _pipeline_parts(outside: Outside, queue: QueueStore, lease_s: float) -> PipelineParts:
    storage = StoragePeer(outside.storage)
    judge = Judge(ModerationPeer(outside.moderation))
    ordering = Ordering(min(4.0, lease_s / 4), outside.addresses.address)
    orders = Orders(AttemptStore(outside.database), outside.providers, storage, ordering)
    planner = Planner(outside.catalog, outside.observed, option_faults(capabilities_of(outside.catalog)))
    return PipelineParts(
        queue=queue,
        planner=lambda: planner,
        inputs=Inputs(JobStore(outside.database), queue, storage, judge, outside.fetcher),
        judge=judge,
        results=Results(CacheStore(outside.database), storage),
        orders=orders,
        fallback=Fallback(_gate(outside.breakers), time.monotonic, asyncio.sleep),
        delivery=Delivery(storage, orders, queue, Hoard()),
        allowed_models=_allowed_models(KeyStore(outside.database)),
        warm=outside.warmer.warm,
    )


def _allowed_models(keys: KeyStore) -> Callable[[str], Awaitable[frozenset[str]]]:
    async def ask(key_id: str) -> frozenset[str]:
        return frozenset((await keys.get(key_id)).terms.models) if key_id else frozenset()

    return ask


def _gate(breakers: Breakers) -> Callable[[Choice], float]:
    return lambda choice: breakers.wait(BreakerKey(choice.provider, choice.model))


async def _open(settings: WorkerSettings, closing: AsyncExitStack) -> Outside:
    token = settings.mesh_token.get_secret_value()
    catalog, _ = load_checked(settings.catalog, os.environ)
    database = open_database(DatabaseConfig(settings.database_url, settings.database_pool))
    bus = Bus(BusConfig(settings.nats_url, "router-worker"))
    storage = open_channel(ChannelConfig(settings.storage_target, token, idempotent=IDEMPOTENT_STORAGE))
    moderation = open_channel(ChannelConfig(settings.moderation_target, token, idempotent=IDEMPOTENT_MODERATION))
    inference = open_channel(ChannelConfig(settings.inference_target, token, timeout=None))
    http = PooledHttpClient()
    teller = Teller(bus)
    events = EventWriter(database)
    breakers = Breakers(BreakerConfig(), time.monotonic, BreakerTalk(teller, time.time, events.put).changed)
    presence = Presence(new_id("wrk"), teller.tell)
    shared = Connections(http, inference, Degradations(breakers), presence.count, http)
    providers = open_providers(catalog, os.environ, shared, breakers)
    warmer = Warmer(http, {entry.id: entry.endpoint for entry in catalog.providers.values()})
    fetcher = UrlFetcher()
    teller.start()
    channels = (storage.close, moderation.close, inference.close)
    for close in (database.close, bus.stop, *channels, http.close, warmer.close, fetcher.close, teller.stop):
        closing.push_async_callback(close)
    return Outside(
        database=database,
        bus=bus,
        storage=storage,
        moderation=moderation,
        providers=providers,
        catalog=catalog,
        breakers=breakers,
        teller=teller,
        presence=presence,
        events=events,
        warmer=warmer,
        observed=HealthStore(database),
        addresses=CallBackAddresses(token, settings.public_callback_url),
        fetcher=fetcher,
    )


async def _listen(outside: Outside, worker: Worker) -> None:
    talk = BreakerTalk(outside.teller, time.time)

    async def on_wake(subject: str, _payload: bytes) -> None:
        worker.wake(subject.rpartition(".")[2])

    async def on_cancel(subject: str, _payload: bytes) -> None:
        worker.cancel_wanted(subject.rpartition(".")[2])

    async def on_breaker(_subject: str, payload: bytes) -> None:
        talk.heard(outside.breakers, payload)

    async def on_hook(subject: str, _payload: bytes) -> None:
        worker.called_back(subject.rpartition(".")[2])

    await outside.bus.on_signal("jobs.wake.*", on_wake)
    await outside.bus.on_signal(CALL_BACK + "*", on_hook)
    await outside.bus.on_signal(WORKER + "*", outside.presence.heard)
    await outside.bus.on_signal("cancel.*", on_cancel)
    await outside.bus.on_signal(DECIDED + "*", worker.decided)
    await outside.bus.on_signal(BREAKER + "*", on_breaker)


def _config(settings: WorkerSettings) -> WorkerConfig:
    return WorkerConfig(
        owner=new_id("wrk"),
        slots=settings.worker_slots,
        batch_slots=max(1, settings.worker_slots // 2),
        lease_s=settings.lease_seconds,
        poll_s=settings.poll_seconds,
        drain_s=settings.drain_seconds,
    )


def _hook(settings: WorkerSettings) -> StepHook:
    return no_hook if settings.test_pause_file is None else pause_where_told(settings.test_pause_file)


def _health(settings: WorkerSettings, outside: Outside) -> Server:
    """The worker's gRPC port: health only, for probes and the launcher."""
    checks = {
        "readiness": outside.database.ping,
        "nats": outside.bus.ping,
        "storage": lambda: check_connected(outside.storage, "storage"),
        "moderation": lambda: check_connected(outside.moderation, "moderation"),
    }
    config = ServerConfig(settings.host, settings.grpc_port, settings.drain_seconds)
    authenticator = Authenticator(settings.mesh_token.get_secret_value(), KeyStore(outside.database))
    return Server(config, authenticator, checks)
