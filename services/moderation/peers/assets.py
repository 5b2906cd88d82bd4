"""The bytes of assets, and what is done with them because of a decision here: both lie in storage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc.aio
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc

from mesh.channel import as_tenant
from mesh.errors import DataLoss, InvalidArgument, Unavailable
from mesh.status import peer_errors

IDEMPOTENT = tuple(
    f"/imagemesh.storage.v1.StorageService/{name}"
    for name in ("ReadAsset", "GetAsset", "ResolveUrl", "TakeDownContent", "RestoreContent", "SetHold")
)
LIMIT_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 5.0
REASON_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class AssetFacts:
    """What is known of an asset. state and kind: names of the contract without their prefix."""

    asset_id: str
    tenant: str
    state: str
    kind: str
    sha256: str
    verdict_id: str = ""
    job_id: str = ""


class Assets(Protocol):
    """Originals, also quarantined ones. An empty tenant stands for every tenant's.

    Every method raises NotFound (ASSET_NOT_FOUND), and Unavailable when storage does not answer in time.
    """

    async def read(self, asset_id: str, tenant: str) -> bytes:
        """All bytes of the original; InvalidArgument (IMAGE_TOO_LARGE) above 64 MiB."""
        ...

    async def get(self, asset_id: str, tenant: str) -> AssetFacts:
        """What is known of it."""
        ...

    async def resolve(self, url: str, tenant: str) -> AssetFacts:
        """The asset of a signed address, also of one that has expired."""
        ...

    async def take_down(self, sha256: str, reason: str) -> None:
        """Every asset with these bytes is unservable when this returns."""
        ...

    async def restore(self, sha256: str, asset_id: str = "", verdict_id: str = "") -> tuple[str, ...]:
        """Undoes a takedown, or publishes one asset under a verdict; the ids of what is published by this."""
        ...

    async def hold(self, asset_id: str, tenant: str, held: bool, reason: str) -> None:
        """Sets or lifts the legal hold; FailedPrecondition when the asset is purged."""
        ...


class StorageAssets:
    """The adapter over storage's rpcs."""

    def __init__(self, channel: grpc.aio.Channel, timeout: float = TIMEOUT_S) -> None:
        self._storage = storage_service_pb2_grpc.StorageServiceStub(channel)
        self._timeout = timeout

    async def read(self, asset_id: str, tenant: str) -> bytes:
        """See `Assets`."""
        request = storage_service_pb2.ReadAssetRequest(asset_id=asset_id)
        try:
            with peer_errors("storage"):
                async with asyncio.timeout(self._timeout):
                    return await self._collect(request, tenant)
        except TimeoutError as error:
            raise Unavailable("storage did not answer in time", metadata={"peer": "storage"}) from error

    async def get(self, asset_id: str, tenant: str) -> AssetFacts:
        """See `Assets`."""
        request = storage_service_pb2.GetAssetRequest(asset_id=asset_id)
        return _facts((await self._call(self._storage.GetAsset, request, tenant)).asset)

    async def resolve(self, url: str, tenant: str) -> AssetFacts:
        """See `Assets`."""
        request = storage_service_pb2.ResolveUrlRequest(url=url)
        return _facts((await self._call(self._storage.ResolveUrl, request, tenant)).asset)

    async def take_down(self, sha256: str, reason: str) -> None:
        """See `Assets`."""
        request = storage_service_pb2.TakeDownContentRequest(sha256=sha256, reason=reason[:REASON_CHARACTERS])
        await self._call(self._storage.TakeDownContent, request)

    async def restore(self, sha256: str, asset_id: str = "", verdict_id: str = "") -> tuple[str, ...]:
        """See `Assets`."""
        request = storage_service_pb2.RestoreContentRequest(sha256=sha256, asset_id=asset_id, verdict_id=verdict_id)
        return tuple((await self._call(self._storage.RestoreContent, request)).asset_ids)

    async def hold(self, asset_id: str, tenant: str, held: bool, reason: str) -> None:
        """See `Assets`."""
        request = storage_service_pb2.SetHoldRequest(asset_id=asset_id, hold=held, reason=reason[:REASON_CHARACTERS])
        await self._call(self._storage.SetHold, request, tenant)

    async def _call(self, rpc: Callable[..., Any], request: Any, tenant: str = "") -> Any:
        with peer_errors("storage"):
            return await rpc(request, timeout=CALL_TIMEOUT_S, metadata=as_tenant(tenant))

    async def _collect(self, request: storage_service_pb2.ReadAssetRequest, tenant: str) -> bytes:
        received: list[bytes] = []
        size, last = 0, False
        call = self._storage.ReadAsset(request, timeout=self._timeout, metadata=as_tenant(tenant))
        async for response in call:
            if response.WhichOneof("load") == "chunk":
                received.append(response.chunk.data)
                size += len(received[-1])
                last = response.chunk.last
            if size > LIMIT_BYTES:
                call.cancel()
                text = f"the asset has more than {LIMIT_BYTES} bytes"
                raise InvalidArgument(text, reason="IMAGE_TOO_LARGE")
        if not last:
            raise DataLoss("storage's stream ended early")
        return b"".join(received)


def _facts(asset: asset_pb2.Asset) -> AssetFacts:
    return AssetFacts(
        asset_id=asset.asset_id,
        tenant=asset.tenant,
        state=asset_pb2.AssetState.Name(asset.state).removeprefix("ASSET_STATE_"),
        kind=asset_pb2.AssetKind.Name(asset.kind).removeprefix("ASSET_KIND_"),
        sha256=asset.sha256,
        verdict_id=asset.verdict_id,
        job_id=asset.provenance.job_id,
    )
