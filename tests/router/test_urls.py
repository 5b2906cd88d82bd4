"""Addresses of many jobs are asked for together, and whoever asks is answered whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc

from mesh.channel import ChannelConfig, open_channel
from services.router.urls import StorageUrls


class Storage(storage_service_pb2_grpc.StorageServiceServicer):
    """Signs what it knows, once it may; remembers each call's tenant and ids."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.called = asyncio.Event()
        self.may = asyncio.Event()
        self.down = False

    async def SignUrls(self, request, context):  # type: ignore[no-untyped-def]
        tenant = dict(context.invocation_metadata())["x-imagemesh-tenant"]
        self.calls.append((tenant, [spec.asset_id for spec in request.specs]))
        self.called.set()
        await self.may.wait()
        if self.down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        results = [
            storage_service_pb2.SignUrlResult(url=asset_pb2.SignedUrl(url=f"https://s/{tenant}/{spec.asset_id}"))
            if spec.asset_id != "ast_gone"
            else storage_service_pb2.SignUrlResult()
            for spec in request.specs
        ]
        return storage_service_pb2.SignUrlsResponse(results=results)


@pytest.fixture
async def signing() -> AsyncIterator[tuple[Storage, StorageUrls]]:
    storage = Storage()  # type: ignore[abstract]
    server = grpc.aio.server()
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(storage, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(ChannelConfig(f"127.0.0.1:{port}"))
    yield storage, StorageUrls(channel)
    await channel.close()
    await server.stop(None)


Signing = tuple[Storage, StorageUrls]


async def test_what_is_asked_for_during_a_call_goes_out_in_one(signing: Signing) -> None:
    storage, urls = signing
    first = asyncio.ensure_future(urls.sign("acme", ["ast_1"]))
    await storage.called.wait()
    later = [asyncio.ensure_future(urls.sign("acme", [f"ast_{number}", "ast_gone"])) for number in (2, 3, 4)]
    other = asyncio.ensure_future(urls.sign("other", ["ast_9"]))
    await asyncio.sleep(0)
    later[0].cancel()
    storage.may.set()
    assert (await first)["ast_1"].url == "https://s/acme/ast_1"
    for number, asked in ((3, later[1]), (4, later[2])):
        signed = await asked
        assert signed[f"ast_{number}"].url == f"https://s/acme/ast_{number}"
        assert "ast_gone" not in signed
    assert (await other)["ast_9"].url == "https://s/other/ast_9"
    together = ["ast_2", "ast_gone", "ast_3", "ast_gone", "ast_4", "ast_gone"]
    assert sorted(storage.calls) == [("acme", ["ast_1"]), ("acme", together), ("other", ["ast_9"])]


async def test_without_storage_there_are_no_addresses_and_later_there_are(signing: Signing) -> None:
    storage, urls = signing
    storage.may.set()
    storage.down = True
    assert await asyncio.gather(urls.sign("acme", ["ast_1"]), urls.sign("acme", ["ast_2"])) == [{}, {}]
    storage.down = False
    assert (await urls.sign("acme", ["ast_1"]))["ast_1"].url == "https://s/acme/ast_1"


async def test_nobody_waits_for_ever_for_a_call_that_broke(signing: Signing, monkeypatch: pytest.MonkeyPatch) -> None:
    _, urls = signing

    async def broken(*_: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("broken")

    monkeypatch.setattr(urls, "_sign_all", broken)
    asked = [asyncio.ensure_future(urls.sign("acme", [f"ast_{number}"])) for number in range(3)]
    assert await asyncio.gather(*asked) == [{}, {}, {}]
