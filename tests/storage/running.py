"""A storage service in process, and small ways to talk to it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pyvips
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2_grpc
from imagemesh.storage.v1 import storage_service_pb2 as pb
from imagemesh.type.v1 import image_pb2

from mesh.auth import CALLER, OPERATOR, REVIEWER, Principal
from mesh.db import DatabaseConfig, open_database
from mesh.errors import MeshError, Unauthenticated
from mesh.events import Bus, BusConfig
from mesh.status import from_rpc_error
from services.storage.__main__ import MIGRATIONS
from services.storage.assembly import Outside, Storage
from services.storage.config import Limits, StorageSettings
from services.storage.objects.base import ObjectStore
from services.storage.verdicts import Verdict
from tests.schemas import migrated

TOKEN = "mesh-token-of-the-tests"
VERDICT_KEY = "33" * 32
SIGNING_KEYS = f"new:{'11' * 32},old:{'22' * 32}"
CHUNK = 1 << 20
KEYS = {
    "acme": Principal("acme", "key_a", frozenset({CALLER})),
    "other": Principal("other", "key_o", frozenset({CALLER})),
    "reviewer": Principal("acme", "key_r", frozenset({REVIEWER})),
    "operator": Principal("acme", "key_p", frozenset({OPERATOR})),
}


class Keys:
    async def verify(self, key: str) -> Principal:
        if key not in KEYS:
            raise Unauthenticated("unknown key")
        return KEYS[key]


@dataclass
class FakeVerdicts:
    """Moderation's verdicts by (tenant, id). `failure` is raised instead when set."""

    known: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    failure: MeshError | None = None

    def allow(self, asset: asset_pb2.Asset, verdict_id: str = "ver_1") -> str:
        self.known[asset.tenant, verdict_id] = Verdict(verdict_id, True, asset.sha256)
        return verdict_id

    async def get(self, verdict_id: str, tenant: str) -> Verdict | None:
        if self.failure is not None:
            raise self.failure
        return self.known.get((tenant, verdict_id))


def internal(tenant: str = "acme") -> tuple[tuple[str, str], ...]:
    tenant_header = (("x-imagemesh-tenant", tenant),) if tenant else ()
    return (("authorization", f"Bearer {TOKEN}"), *tenant_header)


def key(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {name}"),)


def picture(seed: int = 0, width: int = 64, height: int = 48, kind: str = "png") -> bytes:
    """An encoded picture of noise; equal arguments give equal bytes."""
    noise = pyvips.Image.gaussnoise(width, height, mean=128, sigma=40, seed=seed)
    grey = noise.cast("uchar")
    rgb = grey.bandjoin([grey.invert(), grey]).copy(interpretation="srgb")
    return bytes(rgb.write_to_buffer(f".{kind}"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put_stream(data: bytes, header: pb.PutAssetHeader, chunk: int = CHUNK) -> Iterator[pb.PutAssetRequest]:
    yield pb.PutAssetRequest(header=header)
    for offset in range(0, len(data), chunk):
        last = offset + chunk >= len(data)
        piece = image_pb2.Chunk(offset=offset, data=data[offset : offset + chunk], last=last)
        piece.sha256 = sha256(data) if last else ""
        yield pb.PutAssetRequest(chunk=piece)


@dataclass
class Running:
    storage: Storage
    stub: storage_service_pb2_grpc.StorageServiceAsyncStub
    verdicts: FakeVerdicts
    objects: ObjectStore

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.storage.http.port}"

    async def put(self, data: bytes, asset_id: str = "", *, tenant: str = "acme", epoch: int = 0) -> asset_pb2.Asset:
        provenance = asset_pb2.Provenance(job_id="job_1", attempt_id="att_1", seed=7, model="shapes")
        header = pb.PutAssetHeader(
            asset_id=asset_id, kind=asset_pb2.ASSET_KIND_OUTPUT, provenance=provenance, epoch=epoch
        )
        answer = await self.stub.PutAsset(put_stream(data, header), metadata=internal(tenant))
        return answer.asset

    async def publish(self, asset: asset_pb2.Asset, epoch: int = 0) -> asset_pb2.Asset:
        verdict_id = self.verdicts.allow(asset, f"ver_{asset.asset_id}"[:60])
        request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=verdict_id, epoch=epoch)
        return (await self.stub.PublishAsset(request, metadata=internal(asset.tenant))).asset

    async def published(self, data: bytes, *, tenant: str = "acme") -> asset_pb2.Asset:
        return await self.publish(await self.put(data, tenant=tenant))

    async def read(self, asset_id: str, metadata: object = None, **fields: object) -> bytes:
        request = pb.ReadAssetRequest(asset_id=asset_id, **fields)
        parts = [m.chunk.data async for m in self.stub.ReadAsset(request, metadata=metadata or internal())]
        return b"".join(parts)

    async def url(self, asset_id: str, rendition: asset_pb2.RenditionSpec | None = None, tenant: str = "acme") -> str:
        request = pb.SignUrlsRequest(specs=[pb.UrlSpec(asset_id=asset_id, rendition=rendition)])
        answer = await self.stub.SignUrls(request, metadata=internal(tenant))
        return answer.results[0].url.url


@asynccontextmanager
async def running(
    database_url: str, objects: ObjectStore, limits: Limits | None = None, bus: Bus | None = None
) -> AsyncIterator[Running]:
    """A migrated database, a started service, a connected stub."""
    settings = StorageSettings(
        database_url=database_url,
        objects="file:///unused",
        signing_keys=SIGNING_KEYS,
        verdict_key=VERDICT_KEY,
        mesh_token=TOKEN,
        drain_seconds=2,
    )
    await migrated(database_url, MIGRATIONS)
    database = open_database(DatabaseConfig(database_url))
    verdicts = FakeVerdicts()
    bus = bus or Bus(BusConfig("nats://127.0.0.1:1", "tests"))
    storage = Storage(settings, Outside(database, objects, verdicts, Keys(), bus), limits)
    await storage.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{storage.server.port}") as channel:
        yield Running(storage, storage_service_pb2_grpc.StorageServiceStub(channel), verdicts, objects)
    await storage.stop()
    await database.close()
    await objects.close()


async def refused(call: object) -> MeshError:
    """The error that a call fails with; fails the test when it succeeds."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call  # type: ignore[misc]
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error, "storage")
    raise AssertionError("the call was not refused")


def object_files(root: Path) -> list[str]:
    """The keys of the objects in a disk store."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and ".tmp" not in p.parts)
