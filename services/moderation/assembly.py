"""The parts of one moderation process, put together over what lies outside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from imagemesh.moderation.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    moderation_service_pb2,
    moderation_service_pb2_grpc,
    review_service_pb2,
    review_service_pb2_grpc,
)

from mesh.auth import Authenticator, KeyVerifier
from mesh.db import Database
from mesh.events import Bus, Event
from mesh.health import Check
from mesh.outbox import Relay
from mesh.server import Server, ServerConfig
from mesh.telemetry import current
from mesh.verdict_seal import Sealer
from services.moderation import combining, image_pipeline, wire
from services.moderation.audit_parts import Audit
from services.moderation.audit_service import AuditService
from services.moderation.checkpoints import CheckpointStore
from services.moderation.classifiers import IMAGE_CLASSIFIERS, TEXT_CLASSIFIERS
from services.moderation.closing import overtake
from services.moderation.config import ModerationSettings
from services.moderation.image_pipeline import ImagePipeline, Reading
from services.moderation.judging import Judge
from services.moderation.loaded import Loaded, loaded_layers
from services.moderation.moderation_service import ModerationService
from services.moderation.peers.assets import Assets
from services.moderation.people_parts import People
from services.moderation.plug_ins import PlugIn
from services.moderation.policies import PolicyBook, Strikes
from services.moderation.policy_parts import Policies
from services.moderation.retention import Retention, retention_of
from services.moderation.review_service import ReviewService
from services.moderation.shadow import Shadows
from services.moderation.store import Store
from services.moderation.tables import OUTBOX
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Verdict

LAYERS = (combining.LAYER, image_pipeline.LAYER, *TEXT_CLASSIFIERS, *IMAGE_CLASSIFIERS)


def layers(settings: ModerationSettings, plug_ins: Sequence[PlugIn] = ()) -> tuple[str, ...]:
    """The names of the layers that judge in this process; a policy may require these."""
    return (combining.LAYER, image_pipeline.LAYER, *loaded_layers(settings, plug_ins))


@dataclass(frozen=True)
class Outside:
    """What moderation stands on; opened and closed by whoever builds it.

    checks: further health names. checkpoints: where copies of the audit's checkpoints go; None nowhere. plug_ins:
    classifiers of the operator's.
    """

    database: Database
    assets: Assets
    keys: KeyVerifier
    bus: Bus
    checks: Mapping[str, Check] = field(default_factory=dict)
    checkpoints: CheckpointStore | None = None
    plug_ins: Sequence[PlugIn] = ()


class Moderation:
    """A gRPC server over the pipelines and the store. `start` and `stop` may each be called once, in order."""

    def __init__(self, settings: ModerationSettings, outside: Outside, book: PolicyBook) -> None:
        limits = settings.limits()
        self.store = Store(outside.database, overtake)
        self._loaded = Loaded(settings, outside.plug_ins)
        self._pool = ThreadPoolExecutor(limits.text_threads, thread_name_prefix="normalise")
        self._relay = Relay(outside.database, OUTBOX, outside.bus)
        self.policies = Policies(outside.database, outside.bus, book, layers(settings, outside.plug_ins))
        texts = TextPipeline(self.policies.rules, self._loaded.texts, self._pool)
        shadows = Shadows(self.policies.rules, self._pool)
        reading = Reading(self._loaded.reader, texts) if self._loaded.reader else None
        self._pictures = ImagePipeline(
            self._loaded.images, limits.images_working, limits.images_waiting, reading=reading
        )
        judging = (texts, self._pictures, shadows)
        self.judge = Judge(self.policies.shelf, judging, outside.assets, self.store, self._announce)
        self.audit = Audit(outside.database, outside.bus, outside.checkpoints, self._retention)
        self.people = People(outside.database, outside.bus, (outside.assets, self._pictures), self._strikes)
        self.server = _server(settings, outside, self._loaded.checks)
        sealer = Sealer.parse(settings.verdict_key.get_secret_value())
        judging_service = ModerationService(self.judge, self.policies.desk, sealer)
        _add_services(self.server, judging_service, self.people.service, self.audit.service)

    def _announce(self, verdict: Verdict) -> list[Event]:
        return wire.announcements(verdict, current())

    def _strikes(self, tenant: str) -> Strikes:
        return self.policies.shelf.book.for_tenant(tenant).document.strikes

    def _retention(self) -> Retention:
        return retention_of(self.policies.shelf.book.live.all())

    async def start(self) -> None:
        """Serves; the port is in `server.port` afterwards."""
        await self._pictures.warm_up()
        await self.policies.start()
        await self.judge.start()
        await self._relay.start()
        await self.audit.start()
        await self.people.start()
        await self.server.start()

    async def stop(self) -> None:
        """Lets running calls end, then closes in reverse."""
        await self.server.stop()
        await self.people.stop()
        await self.audit.stop()
        await self._relay.stop()
        await self.policies.stop()
        await self._loaded.close()
        self._pool.shutdown()


def _server(settings: ModerationSettings, outside: Outside, checks: Mapping[str, Check]) -> Server:
    config = ServerConfig(settings.host, settings.grpc_port, settings.drain_seconds)
    own = {"readiness": outside.database.ping, "nats": outside.bus.ping}
    authenticator = Authenticator(settings.mesh_token.get_secret_value(), outside.keys)
    return Server(config, authenticator, {**own, **checks, **outside.checks})


def _add_services(server: Server, moderation: ModerationService, reviews: ReviewService, audit: AuditService) -> None:
    served: tuple[tuple[Any, Any, Callable[[Any, Any], None]], ...] = (
        (
            moderation_service_pb2.DESCRIPTOR.services_by_name["ModerationService"],
            moderation,
            moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server,
        ),
        (
            review_service_pb2.DESCRIPTOR.services_by_name["ReviewService"],
            reviews,
            review_service_pb2_grpc.add_ReviewServiceServicer_to_server,
        ),
        (
            audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
            audit,
            audit_service_pb2_grpc.add_AuditServiceServicer_to_server,
        ),
    )
    for descriptor, servicer, register in served:
        server.add(descriptor, servicer, register)
