"""The parts of one storage process, put together over what lies outside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from imagemesh.storage.v1 import storage_service_pb2, storage_service_pb2_grpc

from mesh.auth import Authenticator, KeyVerifier
from mesh.db import Database
from mesh.events import Bus
from mesh.health import Check
from mesh.outbox import Relay
from mesh.process import Background
from mesh.server import Server, ServerConfig
from mesh.verdict_seal import Sealer
from services.storage.archive import Archive
from services.storage.config import Limits, RenditionLimits, StorageSettings
from services.storage.http import HttpConfig, HttpServer, Shelf
from services.storage.objects import ObjectStore
from services.storage.rendering import Renditions
from services.storage.rendition_store import RenditionStore
from services.storage.service import Parts, StorageService
from services.storage.signing import KeyRing, Signer
from services.storage.store import AssetStore
from services.storage.sweeper import Sweeper
from services.storage.tables import OUTBOX
from services.storage.verdicts import KnownVerdicts, Verdicts


@dataclass(frozen=True)
class Outside:
    """What storage stands on; opened and closed by whoever builds a Storage. `checks` are further health names."""

    database: Database
    objects: ObjectStore
    verdicts: Verdicts
    keys: KeyVerifier
    bus: Bus
    checks: Mapping[str, Check] = field(default_factory=dict)


class Storage:
    """A gRPC server and an HTTP server over the same parts. `start` and `stop` may each be called once, in order."""

    def __init__(self, settings: StorageSettings, outside: Outside, limits: Limits | None = None) -> None:
        self._settings = settings
        self._outside = outside
        self.relay = Relay(outside.database, OUTBOX, outside.bus)
        rendering = RenditionLimits(threads=settings.rendition_threads)
        rendition_store = RenditionStore(outside.database, rendering.kept)
        self.sweeper = Sweeper(rendition_store, outside.objects)
        self._sweeping = Background("sweeper", self.sweeper.run)
        self.store = AssetStore(outside.database, self.relay.wake)
        verdicts = KnownVerdicts(outside.verdicts, Sealer.parse(settings.verdict_key.get_secret_value()))
        self.archive = Archive(self.store, outside.objects, verdicts, limits or Limits())
        self.renditions = Renditions(rendition_store, outside.objects, rendering)
        self._ring = KeyRing.parse(settings.signing_keys.get_secret_value())
        self.http = HttpServer(_http_config(settings), Shelf(self.store, self.archive, self.renditions, self._ring))
        self.server = _server(settings, outside)

    async def start(self) -> None:
        """Serves; the ports are in `server.port` and `http.port` afterwards."""
        await self.http.start()
        base = self._settings.public_url or f"http://{self._settings.host}:{self.http.port}"
        parts = Parts(self.store, self.archive, self.renditions, Signer(self._ring, base), self.sweeper)
        descriptor = storage_service_pb2.DESCRIPTOR.services_by_name["StorageService"]
        register = storage_service_pb2_grpc.add_StorageServiceServicer_to_server
        self.server.add(descriptor, StorageService(parts), register)
        await self.relay.start()
        self._sweeping.start()
        await self.server.start()

    async def stop(self) -> None:
        """Lets running calls end, on both ports in the same time, then closes in reverse."""
        await asyncio.gather(self.server.stop(), self.http.stop())
        await self._sweeping.stop()
        await self.relay.stop()
        await self.renditions.close()


def _http_config(settings: StorageSettings) -> HttpConfig:
    return HttpConfig(settings.host, settings.http_port, settings.max_age, settings.drain_seconds)


def _server(settings: StorageSettings, outside: Outside) -> Server:
    config = ServerConfig(settings.host, settings.grpc_port, settings.drain_seconds)
    own = {"readiness": outside.database.ping, "objects": outside.objects.ping, "nats": outside.bus.ping}
    authenticator = Authenticator(settings.mesh_token.get_secret_value(), outside.keys)
    return Server(config, authenticator, {**own, **outside.checks})
