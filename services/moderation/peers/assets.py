"""The bytes of assets, from storage."""

from __future__ import annotations

import asyncio
from typing import Protocol

import grpc.aio
from imagemesh.storage.v1 import storage_service_pb2, storage_service_pb2_grpc

from mesh.channel import as_tenant
from mesh.errors import DataLoss, InvalidArgument, Unavailable
from mesh.status import peer_errors

IDEMPOTENT = ("/imagemesh.storage.v1.StorageService/ReadAsset",)
LIMIT_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 30.0


class Assets(Protocol):
    """Reads originals, also quarantined ones."""

    async def read(self, asset_id: str, tenant: str) -> bytes:
        """All bytes of the original.

        Raises NotFound (ASSET_NOT_FOUND), InvalidArgument (IMAGE_TOO_LARGE) above 64 MiB, Unavailable when storage does
        not answer in time.
        """
        ...


class StorageAssets:
    """The adapter over storage's ReadAsset."""

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
