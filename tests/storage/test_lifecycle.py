"""A picture's whole way, on every kind of database and every kind of object store."""

from __future__ import annotations

import aiohttp
from imagemesh.storage.v1 import asset_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb
from yarl import URL

from services.storage.objects.base import ObjectStore
from tests.storage.running import internal, key, picture, running, sha256


async def fetch(web: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with web.get(URL(url, encoded=True)) as answer:
        return answer.status, await answer.read()


async def test_stored_judged_published_served_withdrawn_and_deleted(database_url: str, objects: ObjectStore) -> None:
    data = picture(1, 900, 800)
    async with running(database_url, objects) as storage, aiohttp.ClientSession() as web:
        asset = await storage.put(data, "ast_one", epoch=1)
        judged = await storage.read("ast_one")  # as moderation does
        assert sha256(judged) == asset.sha256
        await storage.publish(asset, epoch=1)
        assert await storage.read("ast_one", key("acme")) == data
        original = await storage.url("ast_one")
        small = await storage.url("ast_one", asset_pb2.RenditionSpec(width=90, format="webp"))
        assert await fetch(web, original) == (200, data)
        status, webp = await fetch(web, small)
        assert (status, webp[:4]) == (200, b"RIFF")
        take = pb.TakeDownContentRequest(sha256=asset.sha256)
        await storage.stub.TakeDownContent(take, metadata=internal(""))
        assert [(await fetch(web, url))[0] for url in (original, small)] == [404, 404]
        deleted = await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id="ast_one"), metadata=internal())
        assert deleted.asset.state == asset_pb2.ASSET_STATE_PURGED
        while await storage.storage.sweeper.sweep():
            pass
        assert [(await fetch(web, url))[0] for url in (original, small)] == [404, 404]
