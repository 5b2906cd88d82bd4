"""Things that happen at the same time, on every kind of database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import grpc.aio
import pytest
from imagemesh.storage.v1 import asset_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb

from mesh.errors import MeshError, NotFound, Unavailable
from services.storage.http import WINDOW, Served
from services.storage.objects.base import ObjectStoreError
from services.storage.objects.disk import DiskStore
from services.storage.ranges import Part
from services.storage.verdicts import Verdict
from tests.storage.running import Running, internal, key, object_files, picture, refused, running, sha256

DATA = picture(1)


async def delete(storage: Running, asset_id: str) -> None:
    await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=asset_id), metadata=internal())


async def sweep(storage: Running) -> None:
    while await storage.storage.sweeper.sweep():
        pass


async def test_the_same_bytes_put_many_times_at_once_are_one_object(storage: Running, tmp_path: Path) -> None:
    made = await asyncio.gather(*(storage.put(DATA) for _ in range(20)))
    assert len({a.asset_id for a in made}) == 20
    assert len(object_files(tmp_path / "objects")) == 1
    assert [await storage.read(a.asset_id) for a in made] == [DATA] * 20


async def test_one_id_put_many_times_at_once_is_one_asset(storage: Running, tmp_path: Path) -> None:
    bodies = [picture(n) for n in range(10)]
    made = await asyncio.gather(*(storage.put(body, "ast_one") for body in bodies))
    assert len({a.sha256 for a in made}) == 1
    kept = await storage.read("ast_one")
    assert sha256(kept) == made[0].sha256
    assert len(object_files(tmp_path / "objects")) == 1


async def test_putting_while_deleting_never_loses_a_living_asset(storage: Running, tmp_path: Path) -> None:
    """The bytes of every asset that is not PURGED can be read, whatever came between."""
    living: list[str] = []

    async def churn(worker: int) -> None:
        for turn in range(6):
            asset = await storage.put(DATA)
            if (worker + turn) % 2:
                await delete(storage, asset.asset_id)
                await sweep(storage)
            else:
                living.append(asset.asset_id)

    await asyncio.gather(*(churn(worker) for worker in range(6)))
    for asset_id in living:
        assert await storage.read(asset_id) == DATA
    for asset_id in living:
        await delete(storage, asset_id)
    await sweep(storage)
    assert object_files(tmp_path / "objects") == []


async def test_a_put_whose_shared_object_goes_meanwhile_writes_it_again(
    storage: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await storage.put(DATA)
    store = storage.storage.store
    look = store.known

    async def look_then_delete(*arguments: str) -> object:
        known = await look(*arguments)
        monkeypatch.setattr(store, "known", look)
        await delete(storage, first.asset_id)
        await sweep(storage)
        return known

    monkeypatch.setattr(store, "known", look_then_delete)
    second = await storage.put(DATA)
    assert await storage.read(second.asset_id) == DATA


async def test_publishing_while_taking_down_never_leaves_it_published(storage: Running) -> None:
    for turn in range(8):
        data = picture(100 + turn)
        assets = [await storage.put(data) for _ in range(4)]
        verdict = storage.verdicts.allow(assets[0], f"ver_{turn}")

        async def publish(asset: asset_pb2.Asset, verdict: str = verdict) -> None:
            request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=verdict)
            with suppress(grpc.aio.AioRpcError):  # whether it came too late is not the question here
                await storage.stub.PublishAsset(request, metadata=internal())

        take = storage.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=sha256(data)), metadata=internal(""))
        await asyncio.gather(publish(assets[0]), publish(assets[1]), take, publish(assets[2]), publish(assets[3]))
        found = await storage.storage.store.get_many([a.asset_id for a in assets], "")
        assert "PUBLISHED" not in {str(a.state) for a in found.values()}


async def test_of_two_verdicts_at_once_one_wins(storage: Running) -> None:
    asset = await storage.put(DATA)
    storage.verdicts.known["acme", "ver_yes"] = Verdict("ver_yes", True, asset.sha256)
    publish = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id="ver_yes")
    block = pb.BlockAssetRequest(asset_id=asset.asset_id, verdict_id="ver_no")
    outcomes = await asyncio.gather(
        storage.stub.PublishAsset(publish, metadata=internal()),
        storage.stub.BlockAsset(block, metadata=internal()),
        return_exceptions=True,
    )
    assert [isinstance(o, BaseException) for o in outcomes].count(True) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_object_store_that_fails_makes_no_row(
    storage: Running, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    real = storage.objects.put

    async def failing(key: str, data: bytes) -> None:
        if moment == "after":
            await real(key, data)
        raise ObjectStoreError("the object store does not answer")

    monkeypatch.setattr(storage.objects, "put", failing)
    error = await refused(storage.put(DATA, "ast_one"))
    assert isinstance(error, Unavailable)
    assert error.retry_after == 1.0
    monkeypatch.undo()
    get = pb.GetAssetRequest(asset_id="ast_one")
    missing: MeshError = await refused(storage.stub.GetAsset(get, metadata=internal()))
    assert missing.reason == "ASSET_NOT_FOUND"
    assert (await storage.put(DATA, "ast_one")).sha256 == sha256(DATA)


async def test_deleted_bytes_go_even_if_the_object_store_is_away_at_first(
    storage: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asset = await storage.put(DATA)

    async def away(key: str) -> None:
        raise ObjectStoreError("the object store does not answer")

    monkeypatch.setattr(storage.objects, "delete", away)
    await delete(storage, asset.asset_id)
    with pytest.raises(ObjectStoreError):
        await storage.storage.sweeper.sweep()
    assert len(object_files(tmp_path / "objects")) == 1
    monkeypatch.undo()
    await sweep(storage)
    assert object_files(tmp_path / "objects") == []


async def test_a_takedown_while_a_rendition_is_made_keeps_it_from_the_caller(
    storage: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await storage.published(DATA)
    make = storage.storage.renditions.get

    async def make_while_it_is_taken_down(*arguments: object) -> object:
        made = await make(*arguments)
        await storage.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=asset.sha256), metadata=internal(""))
        return made

    monkeypatch.setattr(storage.storage.renditions, "get", make_while_it_is_taken_down)
    request = pb.ReadAssetRequest(asset_id=asset.asset_id, rendition=asset_pb2.RenditionSpec(width=10))
    error = await refused(storage.stub.ReadAsset(request, metadata=key("acme")))
    assert error.reason == "NOT_PUBLISHED"


@pytest.mark.parametrize("fault", [ObjectStoreError("the object store does not answer"), ValueError("whatever")])
async def test_no_fault_ends_the_sweeper(storage: Running, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    failed = asyncio.Event()

    async def failing() -> int:
        failed.set()
        raise fault

    sweeper = storage.storage.sweeper
    monkeypatch.setattr(sweeper, "sweep", failing)
    sweeper.wake()
    await failed.wait()
    await asyncio.sleep(0)  # it has gone back to waiting, or ended
    assert storage.storage._sweeping.running


async def test_both_ports_drain_in_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Barrier(2)

    def beside_the_other(stop: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def wait_and_stop() -> None:
            await asyncio.wait_for(both.wait(), 5)
            await stop()

        return wait_and_stop

    async with running(f"sqlite:///{tmp_path / 'truth.db'}", DiskStore(tmp_path / "objects")) as service:
        for port in (service.storage.server, service.storage.http):
            monkeypatch.setattr(port, "stop", beside_the_other(port.stop))


async def test_a_takedown_while_a_picture_is_sent_stops_it(local: Running) -> None:
    data = picture(1, 2600, 2000)
    assert len(data) > WINDOW
    asset = await local.published(data)
    kept = await local.storage.store.get(asset.asset_id, "")
    served = Served(asset.asset_id, kept.content, 60)
    windows = local.storage.http.windows(served, Part(0, len(data) - 1, len(data)))
    assert await anext(windows) == data[:WINDOW]
    await local.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=asset.sha256), metadata=internal(""))
    with pytest.raises(NotFound):
        await anext(windows)
