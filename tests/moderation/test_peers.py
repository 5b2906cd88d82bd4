"""The port to storage, against a server that answers as storage's contract says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from imagemesh.storage.v1 import storage_service_pb2 as pb
from imagemesh.storage.v1 import storage_service_pb2_grpc
from imagemesh.type.v1 import image_pb2

from mesh.channel import ChannelConfig, open_channel
from mesh.errors import DataLoss, InvalidArgument, MeshError, NotFound, Unavailable
from services.moderation.peers import assets
from services.moderation.peers.assets import StorageAssets


class FakeStorage(storage_service_pb2_grpc.StorageServiceServicer):
    """Answers ReadAsset with `pieces`, or fails with `code`; keeps the tenant that it was asked for."""

    def __init__(self, pieces: Sequence[bytes], finish: bool = True, code: grpc.StatusCode | None = None) -> None:
        self._pieces = pieces
        self._finish = finish
        self._code = code
        self.tenants: list[str] = []

    async def ReadAsset(self, request: pb.ReadAssetRequest, context: Any) -> AsyncIterator[pb.ReadAssetResponse]:
        metadata = dict(context.invocation_metadata())
        self.tenants.append(metadata.get("x-imagemesh-tenant", ""))
        if self._code is not None:
            await context.abort(self._code, "refused")
        yield pb.ReadAssetResponse(header=pb.ReadAssetHeader(size_bytes=sum(map(len, self._pieces))))
        for index, piece in enumerate(self._pieces):
            last = self._finish and index == len(self._pieces) - 1
            yield pb.ReadAssetResponse(chunk=image_pb2.Chunk(data=piece, last=last))


@asynccontextmanager
async def storage(fake: FakeStorage) -> AsyncIterator[StorageAssets]:
    server = grpc.aio.server()
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(ChannelConfig(f"127.0.0.1:{port}"))
    yield StorageAssets(channel)
    await channel.close()
    await server.stop(None)


async def test_all_pieces_are_read_for_the_tenant() -> None:
    fake = FakeStorage([b"ab", b"cd", b""])
    async with storage(fake) as port:
        assert await port.read("ast_1", "acme") == b"abcd"
    assert fake.tenants == ["acme"]


REFUSALS = (
    (FakeStorage([], code=grpc.StatusCode.NOT_FOUND), NotFound),
    (FakeStorage([], code=grpc.StatusCode.UNAVAILABLE), Unavailable),
    (FakeStorage([b"a"], finish=False), DataLoss),
)


@pytest.mark.parametrize(("fake", "expected"), REFUSALS)
async def test_refusals(fake: FakeStorage, expected: type[MeshError]) -> None:
    async with storage(fake) as port:
        with pytest.raises(expected):
            await port.read("ast_1", "acme")


async def test_too_many_bytes_are_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "LIMIT_BYTES", 10)
    async with storage(FakeStorage([b"123456"] * 3)) as port:
        with pytest.raises(InvalidArgument) as raised:
            await port.read("ast_1", "acme")
    assert raised.value.reason == "IMAGE_TOO_LARGE"


async def test_no_storage_is_unavailable() -> None:
    channel = open_channel(ChannelConfig("127.0.0.1:1"))
    with pytest.raises(Unavailable):
        await StorageAssets(channel, timeout=2).read("ast_1", "acme")
    await channel.close()
