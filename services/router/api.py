"""The parts of one router API process, put together over what lies outside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagemesh.router.v1 import (
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    evaluation_service_pb2,
    evaluation_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    template_service_pb2,
    template_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
    webhook_service_pb2,
    webhook_service_pb2_grpc,
)

from mesh.auth import KEY_REVOKED, Authenticator, CachedKeys
from mesh.db import Database
from mesh.events import Bus
from mesh.health import Check
from mesh.outbox import Relay
from mesh.process import Background
from mesh.server import Server, ServerConfig
from mesh.telemetry import logger
from services.router.api_key_service import ApiKeyService
from services.router.bootstrap import ensure_key
from services.router.cache_store import CacheStore
from services.router.catalog_service import CatalogService
from services.router.checking import Checks
from services.router.config import ApiSettings
from services.router.evaluation_service import EvaluationService
from services.router.health import NoHealth, ProviderHealth
from services.router.job_service import JobService, Tellers
from services.router.job_store import JobStore
from services.router.key_store import KeyStore
from services.router.ledger_store import LedgerStore
from services.router.limits import Limits
from services.router.planning import Planner
from services.router.providers.base import Provider
from services.router.submission import Submission
from services.router.tables import outbox
from services.router.template_service import TemplateService
from services.router.urls import Urls
from services.router.usage_service import UsageService
from services.router.watching import WatchConfig, Watching
from services.router.webhook_service import WebhookService

TIDY_SECONDS = 60.0
TIDY_ROWS = 500
"""Rows of one transaction."""

log = logger(__name__)


@dataclass(frozen=True)
class Outside:
    """What the API stands on; opened and closed by whoever builds an Api. `checks` are further health names."""

    database: Database
    bus: Bus
    planner: Planner
    urls: Urls
    health: ProviderHealth = field(default_factory=NoHealth)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    """Opened to be checked and to verify call backs; the API draws nothing."""
    checks: Mapping[str, Check] = field(default_factory=dict)


class Api:
    """The gRPC server of the router. `start` and `stop` may each be called once, in order."""

    def __init__(self, settings: ApiSettings, outside: Outside) -> None:
        self._settings = settings
        self._bus = outside.bus
        database = outside.database
        self.keys = KeyStore(database)
        self.jobs = JobStore(database, settings.queue_limit)
        self.ledger = LedgerStore(database)
        self.cache = CacheStore(database)
        self.relay = Relay(database, outbox, outside.bus)
        self.watching = Watching(self.jobs, outside.bus, WatchConfig(settings.watch_poll_seconds, settings.watch_limit))
        self._verified = CachedKeys(self.keys)
        self._tidying = Background("tidy", self._tidy)
        checks = {"readiness": database.ping, "nats": outside.bus.ping, **outside.checks}
        self.server = Server(
            ServerConfig(settings.host, settings.grpc_port, settings.drain_seconds),
            Authenticator(settings.mesh_token.get_secret_value(), self._verified),
            checks,
        )
        self._add_services(outside)

    async def start(self) -> None:
        """Serves; the port is in `server.port` afterwards."""
        if self._settings.bootstrap_key_file is not None:
            await ensure_key(self.keys, self._settings.bootstrap_key_file, self._settings.bootstrap_tenant)
        await self._bus.on_signal(KEY_REVOKED, self._verified.forget)
        await self.watching.start()
        await self.relay.start()
        self._tidying.start()
        await self.server.start()

    async def stop(self) -> None:
        """Ends streams, lets running calls end, then closes in reverse."""
        await self.watching.stop()
        await self.server.stop()
        await self._tidying.stop()
        await self.relay.stop()

    def _add_services(self, outside: Outside) -> None:
        tellers = Tellers(outside.bus, self.relay)
        jobs = JobService(Submission(self.jobs, outside.planner), self.jobs, self.watching, outside.urls, tellers)
        limits = Limits(self.jobs, self._settings, self.watching)
        services: tuple[tuple[Any, Any, Any], ...] = (
            (job_service_pb2, jobs, job_service_pb2_grpc.add_JobServiceServicer_to_server),
            (
                catalog_service_pb2,
                CatalogService(outside.planner, outside.health, Checks(outside.planner.catalog, outside.providers)),
                catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server,
            ),
            (
                usage_service_pb2,
                UsageService(self.ledger, limits),
                usage_service_pb2_grpc.add_UsageServiceServicer_to_server,
            ),
            (
                api_key_service_pb2,
                ApiKeyService(self.keys, self._verified, outside.bus),
                api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server,
            ),
            (template_service_pb2, TemplateService(), template_service_pb2_grpc.add_TemplateServiceServicer_to_server),
            (webhook_service_pb2, WebhookService(), webhook_service_pb2_grpc.add_WebhookServiceServicer_to_server),
            (
                evaluation_service_pb2,
                EvaluationService(),
                evaluation_service_pb2_grpc.add_EvaluationServiceServicer_to_server,
            ),
        )
        for module, servicer, register in services:
            (descriptor,) = module.DESCRIPTOR.services_by_name.values()
            self.server.add(descriptor, servicer, register)

    async def _tidy_some(self) -> tuple[int, ...]:
        return (
            await self.jobs.forget_requests(TIDY_ROWS),
            await self.ledger.expire_holds(TIDY_ROWS),
            await self.cache.sweep(TIDY_ROWS),
        )

    async def _tidy(self) -> None:
        """Once a minute: forgets old request ids and results and ends aged holds, however many there are."""
        while True:
            try:
                while TIDY_ROWS in await self._tidy_some():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the next minute may work
                log.warning("could not tidy", error=type(error).__name__)
            await asyncio.sleep(TIDY_SECONDS)
