"""Keeping pictures. Puts and copies name the id themselves, so a repeat keeps the first bytes and changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import grpc.aio
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc
from imagemesh.type.v1 import image_pb2

from mesh.channel import as_tenant
from mesh.errors import DataLoss
from mesh.status import peer_errors
from services.router.peers.moderation import Verdict

CHUNK_BYTES = 1024 * 1024
THREAD_BYTES = 256 * 1024
"""Pictures above this are hashed in a thread."""
AT_HAND_BYTES = 2 * 1024 * 1024
"""Pictures up to this are kept at hand until they are judged, so that moderation need not fetch them again."""
PUT_ASSET = "/imagemesh.storage.v1.StorageService/PutAsset"
CALL_TIMEOUT = 10.0
STREAM_TIMEOUT = 60.0
INPUT = "INPUT"
OUTPUT = "OUTPUT"


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a picture was made; see `imagemesh.storage.v1.Provenance`. Never a prompt, only its hash."""

    job_id: str
    attempt_id: str = ""
    index: int = 0
    provider: str = ""
    model: str = ""
    model_version: str = ""
    provider_request_id: str = ""
    prompt_hash: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture to keep under `asset_id`. kind: INPUT or OUTPUT."""

    asset_id: str
    data: bytes
    media_type: str
    provenance: Provenance
    kind: str = OUTPUT


@dataclass(frozen=True, slots=True)
class StoredAsset:
    """A picture as storage has it."""

    asset_id: str
    state: str
    sha256: str
    width: int
    height: int
    format: str
    size_bytes: int
    data: bytes = field(default=b"", repr=False, compare=False)
    """Its bytes, while they are at hand."""


@dataclass(frozen=True, slots=True)
class Holder:
    """For whom storage is asked, and under which lease; an older epoch than the asset knows is refused."""

    tenant: str
    epoch: int


class Storage(Protocol):
    """What the pipeline needs of storage. Every method raises `mesh.errors.Unavailable` while it does not answer."""

    async def put(self, holder: Holder, upload: Upload) -> StoredAsset:
        """Keep it, QUARANTINED. Raises InvalidArgument IMAGE_UNREADABLE or IMAGE_TOO_LARGE for bytes that are no
        picture."""

    async def copy(self, holder: Holder, source_asset_id: str, asset_id: str, job: Provenance) -> StoredAsset:
        """A QUARANTINED row over the bytes of a PUBLISHED asset. Raises FailedPrecondition NOT_PUBLISHED or
        CONTENT_BLOCKED, NotFound."""

    async def publish(self, holder: Holder, asset_id: str, verdict: Verdict) -> StoredAsset:
        """Let it out. Raises FailedPrecondition WRONG_STATE, VERDICT_NOT_FOUND or CONTENT_BLOCKED."""

    async def block(self, holder: Holder, asset_id: str, verdict_id: str) -> None:
        """Refuse it for good."""

    async def read(self, holder: Holder, asset_id: str) -> tuple[bytes, str]:
        """The bytes and their media type, in any state that is not PURGED."""

    async def answers(self) -> bool:
        """Whether it can be reached; cheap."""


class StoragePeer:
    """`Storage` over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        self._put_whole = channel.unary_unary(  # on the wire a stream of one message; without a stream's tasks here
            PUT_ASSET,
            request_serializer=storage_service_pb2.PutAssetRequest.SerializeToString,
            response_deserializer=storage_service_pb2.PutAssetResponse.FromString,
        )

    async def put(self, holder: Holder, upload: Upload) -> StoredAsset:
        """See `Storage.put`."""
        digest = await sha256_hex(upload.data)
        metadata = as_tenant(holder.tenant)
        with peer_errors("storage"):
            if len(upload.data) <= CHUNK_BYTES:
                request = _put_request(holder, upload, digest)
                answer = await self._put_whole(request, metadata=metadata, timeout=STREAM_TIMEOUT)
            else:
                requests = _put_requests(holder, upload, digest)
                answer = await self._stub.PutAsset(requests, metadata=metadata, timeout=STREAM_TIMEOUT)
        return with_data(read_asset(answer.asset), upload.data, digest)

    async def copy(self, holder: Holder, source_asset_id: str, asset_id: str, job: Provenance) -> StoredAsset:
        """See `Storage.copy`."""
        request = storage_service_pb2.CopyAssetRequest(
            source_asset_id=source_asset_id, asset_id=asset_id, provenance=_provenance(job), epoch=holder.epoch
        )
        with peer_errors("storage"):
            answer = await self._stub.CopyAsset(request, metadata=as_tenant(holder.tenant), timeout=CALL_TIMEOUT)
        return read_asset(answer.asset)

    async def publish(self, holder: Holder, asset_id: str, verdict: Verdict) -> StoredAsset:
        """See `Storage.publish`."""
        request = storage_service_pb2.PublishAssetRequest(
            asset_id=asset_id, verdict_id=verdict.verdict_id, epoch=holder.epoch, verdict_seal=verdict.seal
        )
        with peer_errors("storage"):
            answer = await self._stub.PublishAsset(request, metadata=as_tenant(holder.tenant), timeout=CALL_TIMEOUT)
        return read_asset(answer.asset)

    async def block(self, holder: Holder, asset_id: str, verdict_id: str) -> None:
        """See `Storage.block`."""
        request = storage_service_pb2.BlockAssetRequest(asset_id=asset_id, verdict_id=verdict_id, epoch=holder.epoch)
        with peer_errors("storage"):
            await self._stub.BlockAsset(request, metadata=as_tenant(holder.tenant), timeout=CALL_TIMEOUT)

    async def read(self, holder: Holder, asset_id: str) -> tuple[bytes, str]:
        """See `Storage.read`."""
        request = storage_service_pb2.ReadAssetRequest(asset_id=asset_id)
        data, media_type, digest = bytearray(), "", ""
        with peer_errors("storage"):
            stream = self._stub.ReadAsset(request, metadata=as_tenant(holder.tenant), timeout=STREAM_TIMEOUT)
            async for message in stream:
                if message.HasField("header"):
                    media_type = message.header.media_type
                else:
                    data += message.chunk.data
                    digest = message.chunk.sha256
        whole = bytes(data)
        if await sha256_hex(whole) != digest:
            raise DataLoss("an asset did not arrive whole", reason="CHECKSUM_MISMATCH")
        return whole, media_type

    async def answers(self) -> bool:
        """True unless the connection is known to be broken."""
        broken = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
        return self._channel.get_state(try_to_connect=True) not in broken


async def sha256_hex(data: bytes) -> str:
    """Lower-case hex SHA-256, in a thread where it takes long."""
    if len(data) > THREAD_BYTES:
        return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
    return hashlib.sha256(data).hexdigest()


def with_data(asset: StoredAsset, data: bytes, sha256: str) -> StoredAsset:
    """The asset with its bytes at hand, if they are its own (an earlier put may have been kept) and not many."""
    own = asset.sha256 == sha256 and len(data) <= AT_HAND_BYTES
    return replace(asset, data=data) if own else asset


def read_asset(asset: asset_pb2.Asset) -> StoredAsset:
    """The message as a value."""
    return StoredAsset(
        asset_id=asset.asset_id,
        state=asset_pb2.AssetState.Name(asset.state).removeprefix("ASSET_STATE_"),
        sha256=asset.sha256,
        width=asset.width,
        height=asset.height,
        format=asset.format,
        size_bytes=asset.size_bytes,
    )


def _header(holder: Holder, upload: Upload) -> storage_service_pb2.PutAssetRequest:
    return storage_service_pb2.PutAssetRequest(
        header=storage_service_pb2.PutAssetHeader(
            asset_id=upload.asset_id,
            kind=asset_pb2.AssetKind.Value(f"ASSET_KIND_{upload.kind}"),
            media_type=upload.media_type,
            provenance=_provenance(upload.provenance),
            epoch=holder.epoch,
        )
    )


def _put_request(holder: Holder, upload: Upload, digest: str) -> storage_service_pb2.PutAssetRequest:
    """A small picture, within its header."""
    request = _header(holder, upload)
    _fill(request.header.whole, 0, upload.data, digest)
    return request


async def _put_requests(
    holder: Holder, upload: Upload, digest: str
) -> AsyncIterator[storage_service_pb2.PutAssetRequest]:
    yield _header(holder, upload)
    size = len(upload.data)
    for offset in range(0, size, CHUNK_BYTES):
        message = storage_service_pb2.PutAssetRequest()
        last = offset + CHUNK_BYTES >= size
        _fill(message.chunk, offset, upload.data[offset : offset + CHUNK_BYTES], digest if last else "")
        yield message


def _fill(chunk: image_pb2.Chunk, offset: int, data: bytes, sha256: str) -> None:
    """Fills it in place: a message given to another's constructor is copied, bytes and all."""
    chunk.offset = offset
    chunk.data = data
    chunk.last = bool(sha256)
    chunk.sha256 = sha256


def _provenance(made: Provenance) -> asset_pb2.Provenance:
    return asset_pb2.Provenance(
        job_id=made.job_id,
        attempt_id=made.attempt_id,
        index=made.index,
        provider=made.provider,
        model=made.model,
        model_version=made.model_version,
        provider_request_id=made.provider_request_id,
        prompt_hash=made.prompt_hash,
        seed=made.seed,
        steps=made.steps,
        guidance=made.guidance,
    )
