"""The thin ports to moderation and storage, against small servers that check the contract's rules on streams."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from imagemesh.moderation.v1 import moderation_service_pb2, moderation_service_pb2_grpc, verdict_pb2
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc
from imagemesh.type.v1 import image_pb2

from mesh.channel import ChannelConfig, open_channel
from mesh.errors import DataLoss, Unavailable
from services.router.peers.moderation import Decision, ModerationPeer, Subject, read_verdict
from services.router.peers.storage import AT_HAND_BYTES, Holder, Provenance, StoragePeer, StoredAsset, Upload, with_data

HOLDER = Holder("acme", epoch=3)
MEBIBYTE = 1024 * 1024


class FakeStorageService(storage_service_pb2_grpc.StorageServiceServicer):
    """Takes a put apart and gives its bytes back."""

    def __init__(self) -> None:
        self.header = storage_service_pb2.PutAssetHeader()
        self.data = b""
        self.sizes: list[int] = []
        self.digest = ""
        self.tenants: set[str] = set()
        self.last = False
        self.torn = False

    async def PutAsset(self, request_iterator, context):  # type: ignore[no-untyped-def]
        self.tenants.add(dict(context.invocation_metadata())["x-imagemesh-tenant"])
        self.data = b""
        async for message in request_iterator:
            if message.HasField("header"):
                self.header = message.header
                if not self.header.HasField("whole"):
                    continue
            chunk = self.header.whole if message.HasField("header") else message.chunk
            assert chunk.offset == len(self.data)
            self.sizes.append(len(chunk.data))
            self.data += chunk.data
            self.digest = chunk.sha256
            self.last = chunk.last
        asset = asset_pb2.Asset(asset_id=self.header.asset_id, state=asset_pb2.ASSET_STATE_QUARANTINED, width=16)
        return storage_service_pb2.PutAssetResponse(asset=asset)

    async def PublishAsset(self, request, context):  # type: ignore[no-untyped-def]
        self.published = request
        return storage_service_pb2.PublishAssetResponse(asset=asset_pb2.Asset(asset_id=request.asset_id))

    async def ReadAsset(self, request, context):  # type: ignore[no-untyped-def]
        header = storage_service_pb2.ReadAssetHeader(media_type="image/webp")
        yield storage_service_pb2.ReadAssetResponse(header=header)
        digest = hashlib.sha256(self.data).hexdigest()
        half = len(self.data) // 2
        for piece, last in ((self.data[:half], False), (self.data[half + self.torn :], True)):
            chunk = image_pb2.Chunk(data=piece, last=last, sha256=digest if last else "")
            yield storage_service_pb2.ReadAssetResponse(chunk=chunk)


class FakeModerationService(moderation_service_pb2_grpc.ModerationServiceServicer):
    def __init__(self) -> None:
        self.asked = moderation_service_pb2.ModeratePromptRequest()

    async def ModerateImage(self, request, context):  # type: ignore[no-untyped-def]
        verdict = verdict_pb2.Verdict(verdict_id="ver_2", decision=verdict_pb2.DECISION_ALLOW, sha256="ab")
        return moderation_service_pb2.ModerateImageResponse(verdict=verdict, seal="sealed")

    async def ModeratePrompt(self, request, context):  # type: ignore[no-untyped-def]
        self.asked = request
        verdict = verdict_pb2.Verdict(verdict_id="ver_1", decision=verdict_pb2.DECISION_FLAG, policy_id="p")
        return moderation_service_pb2.ModeratePromptResponse(verdict=verdict)


@pytest.fixture
async def servers() -> AsyncIterator[tuple[FakeStorageService, FakeModerationService, grpc.aio.Channel]]:
    storage, moderation = FakeStorageService(), FakeModerationService()  # type: ignore[abstract]
    server = grpc.aio.server()
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(storage, server)
    moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server(moderation, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(ChannelConfig(f"127.0.0.1:{port}"))
    yield storage, moderation, channel
    await channel.close()
    await server.stop(None)


Servers = tuple[FakeStorageService, FakeModerationService, grpc.aio.Channel]


@pytest.mark.parametrize("size", [1, 1000, MEBIBYTE, MEBIBYTE + 1, 3 * MEBIBYTE])
async def test_puts_stream_in_order_and_in_bounds(servers: Servers, size: int) -> None:
    storage, _, channel = servers
    data = random.Random(size).randbytes(size)
    made = Provenance("job_1", "att_1", index=2, provider="one", seed=7)
    asset = await StoragePeer(channel).put(HOLDER, Upload("ast_1", data, "image/png", made))
    assert storage.data == data
    assert max(storage.sizes) <= MEBIBYTE
    assert (storage.digest, storage.last) == (hashlib.sha256(data).hexdigest(), True)
    assert (storage.header.epoch, storage.header.kind) == (3, asset_pb2.ASSET_KIND_OUTPUT)
    assert (storage.header.provenance.index, storage.header.provenance.seed) == (2, 7)
    assert storage.tenants == {"acme"}
    assert (asset.asset_id, asset.state, asset.width) == ("ast_1", "QUARANTINED", 16)


async def test_reads_come_home_whole_or_not_at_all(servers: Servers) -> None:
    storage, _, channel = servers
    storage.data = b"picture" * 1000
    assert await StoragePeer(channel).read(HOLDER, "ast_1") == (storage.data, "image/webp")
    storage.torn = True
    with pytest.raises(DataLoss):
        await StoragePeer(channel).read(HOLDER, "ast_1")


async def test_moderations_seal_goes_to_storage_with_the_verdict(servers: Servers) -> None:
    storage, _, channel = servers
    verdict = await ModerationPeer(channel).judge_image(Subject("acme", "job_1"), "ast_1", b"bytes")
    await StoragePeer(channel).publish(HOLDER, "ast_1", verdict)
    wanted = {"asset_id": "ast_1", "verdict_id": "ver_2", "epoch": 3, "verdict_seal": "sealed"}
    assert storage.published == storage_service_pb2.PublishAssetRequest(**wanted)
    assert "sealed" not in repr(verdict)


async def test_texts_are_judged_together_and_empty_ones_left_out(servers: Servers) -> None:
    _, moderation, channel = servers
    texts = {"PROMPT": "a fox", "NEGATIVE_PROMPT": ""}
    verdict = await ModerationPeer(channel).judge_texts(Subject("acme", "job_1", "u"), texts)
    assert [(text.kind, text.text) for text in moderation.asked.texts] == [(verdict_pb2.TEXT_KIND_PROMPT, "a fox")]
    assert (moderation.asked.job_id, moderation.asked.user) == ("job_1", "u")
    assert (verdict.decision, verdict.verdict_id, verdict.policy) == (Decision.FLAG, "ver_1", "p:0")


def test_a_decision_nobody_knows_blocks() -> None:
    assert read_verdict(verdict_pb2.Verdict()).decision is Decision.BLOCK


async def test_a_peer_that_is_gone_is_unavailable_by_name() -> None:
    channel = open_channel(ChannelConfig("127.0.0.1:9"))
    try:
        with pytest.raises(Unavailable) as caught:
            await StoragePeer(channel).block(HOLDER, "ast_1", "ver_1")
        assert caught.value.metadata["peer"] == "storage"
        assert not await StoragePeer(channel).answers()
    finally:
        await channel.close()


@pytest.mark.parametrize(
    ("stored", "size", "at_hand"),
    [("own", 100, True), ("earlier", 100, False), ("own", AT_HAND_BYTES + 1, False)],
)
def test_only_an_asset_s_own_bytes_are_kept_at_hand_and_not_many(stored: str, size: int, at_hand: bool) -> None:
    asset = StoredAsset("ast_1", "QUARANTINED", stored, 16, 16, "png", size)
    assert with_data(asset, bytes(size), "own").data == (bytes(size) if at_hand else b"")
