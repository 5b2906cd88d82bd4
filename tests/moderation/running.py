"""A moderation service in process, and small ways to talk to it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import sqlalchemy as sa
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import moderation_service_pb2_grpc, policy_pb2, review_service_pb2_grpc, verdict_pb2

from mesh.auth import CALLER, OPERATOR, REVIEWER, Principal
from mesh.db import Database, DatabaseConfig, open_database
from mesh.errors import MeshError, NotFound, Unauthenticated
from mesh.events import Bus, BusConfig
from mesh.status import from_rpc_error
from services.moderation.__main__ import MIGRATIONS
from services.moderation.assembly import Moderation, Outside, layers
from services.moderation.config import DEFAULT_POLICY, ModerationSettings
from services.moderation.peers.assets import AssetFacts
from services.moderation.plug_ins import PlugIn
from services.moderation.policy_files import load_policies
from tests.schemas import migrated

TOKEN = "mesh-token-of-the-tests"
VERDICT_KEY = "55" * 32
KEYS = {
    "acme": Principal("acme", "key_a", frozenset({CALLER})),
    "other": Principal("other", "key_o", frozenset({CALLER})),
    "reviewer": Principal("acme", "key_r", frozenset({REVIEWER})),
    "operator": Principal("acme", "key_p", frozenset({OPERATOR})),
    "all roles": Principal("other", "key_all", frozenset({CALLER, OPERATOR, REVIEWER})),
}
Metadata = tuple[tuple[str, str], ...]


class Keys:
    async def verify(self, key: str) -> Principal:
        if key not in KEYS:
            raise Unauthenticated("unknown key")
        return KEYS[key]


@dataclass
class FakeAssets:
    """Storage's originals by (tenant, id). `failure` is raised instead when set."""

    known: dict[tuple[str, str], bytes] = field(default_factory=dict)
    failure: MeshError | None = None

    def put(self, asset_id: str, data: bytes, tenant: str = "acme") -> str:
        self.known[tenant, asset_id] = data
        return asset_id

    states: dict[str, str] = field(default_factory=dict)
    verdict_ids: dict[str, str] = field(default_factory=dict)
    done: list[tuple[str, ...]] = field(default_factory=list)
    """What storage was told to do, in order."""

    async def read(self, asset_id: str, tenant: str) -> bytes:
        return self.known[self._whose(asset_id, tenant), asset_id]

    async def get(self, asset_id: str, tenant: str) -> AssetFacts:
        owner = self._whose(asset_id, tenant)
        digest = hashlib.sha256(self.known[owner, asset_id]).hexdigest()
        state, verdict_id = self.states.get(asset_id, "PUBLISHED"), self.verdict_ids.get(asset_id, "")
        return AssetFacts(asset_id, owner, state, "OUTPUT", digest, verdict_id)

    async def resolve(self, url: str, tenant: str) -> AssetFacts:
        return await self.get(url.rpartition("/a/")[2].partition("?")[0], tenant)

    async def take_down(self, sha256: str, reason: str) -> None:
        await self._do("take down", sha256, reason)

    async def restore(self, sha256: str, asset_id: str = "", verdict_id: str = "") -> tuple[str, ...]:
        await self._do("restore", sha256, asset_id, verdict_id)
        return (asset_id,)

    async def hold(self, asset_id: str, tenant: str, held: bool, reason: str) -> None:
        await self._do("hold" if held else "lift", asset_id, tenant)

    async def _do(self, *what: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.done.append(what)

    def _whose(self, asset_id: str, tenant: str) -> str:
        if self.failure is not None:
            raise self.failure
        owners = [owner for owner, known in self.known if known == asset_id and tenant in ("", owner)]
        if not owners:
            raise NotFound("no such asset", reason="ASSET_NOT_FOUND")
        return owners[0]


def internal(tenant: str = "acme") -> Metadata:
    tenant_header = (("x-imagemesh-tenant", tenant),) if tenant else ()
    return (("authorization", f"Bearer {TOKEN}"), *tenant_header)


def key(name: str) -> Metadata:
    return (("authorization", f"Bearer {name}"),)


@dataclass
class Running:
    moderation: Moderation
    channel: grpc.aio.Channel
    stub: moderation_service_pb2_grpc.ModerationServiceAsyncStub
    people: review_service_pb2_grpc.ReviewServiceAsyncStub
    assets: FakeAssets
    database: Database

    async def prompt(
        self,
        text: str,
        kind: verdict_pb2.TextKind.ValueType = verdict_pb2.TEXT_KIND_PROMPT,
        *,
        job_id: str = "",
        user: str = "",
        safety: policy_pb2.Safety | None = None,
        metadata: Metadata | None = None,
    ) -> verdict_pb2.Verdict:
        texts = [pb.PromptText(kind=kind, text=text)]
        request = pb.ModeratePromptRequest(texts=texts, job_id=job_id, user=user, safety=safety)
        return (await self.stub.ModeratePrompt(request, metadata=metadata or internal())).verdict

    async def image(
        self, data: bytes = b"", asset_id: str = "", *, job_id: str = "", metadata: Metadata | None = None
    ) -> verdict_pb2.Verdict:
        request = pb.ModerateImageRequest(job_id=job_id)
        if asset_id:
            request.asset_id = asset_id
        else:
            request.inline = data
        return (await self.stub.ModerateImage(request, metadata=metadata or internal())).verdict

    async def rows(self, table: sa.Table) -> list[sa.RowMapping]:
        return await self.database.read(lambda c: list(c.execute(sa.select(table)).mappings()))


@asynccontextmanager
async def running(
    database_url: str, policy: Path = DEFAULT_POLICY, plug_ins: Sequence[PlugIn] = ()
) -> AsyncIterator[Running]:
    """A migrated database, a started service, a connected stub."""
    own = {"database_url": database_url, "policy": policy}
    settings = ModerationSettings(mesh_token=TOKEN, verdict_key=VERDICT_KEY, drain_seconds=2, **own)
    await migrated(database_url, MIGRATIONS)
    database = open_database(DatabaseConfig(database_url))
    assets = FakeAssets()
    bus = Bus(BusConfig("nats://127.0.0.1:1", "tests"))
    outside = Outside(database, assets, Keys(), bus, plug_ins=plug_ins)
    moderation = Moderation(settings, outside, load_policies(policy, layers(settings, plug_ins)))
    await moderation.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{moderation.server.port}") as channel:
        stub = moderation_service_pb2_grpc.ModerationServiceStub(channel)
        people = review_service_pb2_grpc.ReviewServiceStub(channel)
        yield Running(moderation, channel, stub, people, assets, database)
    await moderation.stop()
    await database.close()


async def refused(call: object) -> MeshError:
    """The error that a call fails with; fails the test when it succeeds."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error, "moderation")
    raise AssertionError("the call was not refused")
