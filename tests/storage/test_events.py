"""What storage tells the world, through a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from imagemesh.events.v1 import asset_pb2 as events_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb
from nats.aio.msg import Msg

from mesh.events import STREAM, Bus, BusConfig
from services.storage.objects.disk import DiskStore
from tests.conftest import NatsServer
from tests.storage.running import Running, internal, picture, running

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def told(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Running]:
    bus = Bus(BusConfig(nats_server.url, "storage"))
    await bus.start()
    url = f"sqlite:///{tmp_path / 'truth.db'}"
    async with running(url, DiskStore(tmp_path / "objects"), bus=bus) as service:
        yield service
    await bus.stop()


async def heard(server: NatsServer, count: int) -> list[Msg]:
    """The first events of the stream, waiting for them."""
    client = await nats.connect(server.url)
    async with asyncio.timeout(30):
        while True:
            try:
                stream = await client.jetstream().stream_info(STREAM)
            except nats.js.errors.NotFoundError:
                stream = None
            if stream is not None and stream.state.messages >= count:
                break
            await asyncio.sleep(0.02)
    subscription = await client.jetstream().subscribe("imagemesh.>", ordered_consumer=True)
    messages = [await subscription.next_msg(timeout=10) for _ in range(count)]
    await client.close()
    return messages


async def test_publishing_and_taking_down_are_events_in_the_callers_trace(
    told: Running, nats_server: NatsServer
) -> None:
    asset = await told.put(picture(1))
    verdict = told.verdicts.allow(asset)
    publish = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=verdict)
    await told.stub.PublishAsset(publish, metadata=(*internal(), ("traceparent", TRACE)))
    take = pb.TakeDownContentRequest(sha256=asset.sha256, reason="report 7")
    await told.stub.TakeDownContent(take, metadata=internal(""))
    first, second = await heard(nats_server, 2)
    assert first.subject == f"imagemesh.AssetPublished.acme.{asset.asset_id}"
    assert second.subject == f"imagemesh.AssetTakenDown.acme.{asset.asset_id}"
    assert first.headers is not None
    assert second.headers is not None
    assert first.headers["traceparent"].split("-")[1] == TRACE.split("-")[1]
    assert first.headers["ce-type"] == "imagemesh.events.v1.AssetPublished"
    assert int(first.headers["ce-subjectversion"]) < int(second.headers["ce-subjectversion"])
    assert first.headers["ce-id"] != second.headers["ce-id"]
    assert events_pb2.AssetPublished.FromString(first.data).verdict_id == verdict
    assert events_pb2.AssetTakenDown.FromString(second.data).reason == "report 7"
