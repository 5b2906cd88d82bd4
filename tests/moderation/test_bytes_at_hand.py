"""A service of the mesh may bring an asset's bytes along; the verdict is bound to them, and nobody else may."""

from __future__ import annotations

import hashlib

import pytest
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import verdict_pb2

from mesh.errors import Code
from mesh.verdict_seal import Sealer
from services.moderation.perceptual import BlockedHash
from services.moderation.verdicts import Category
from tests.moderation.pictures import encode, scene
from tests.moderation.running import VERDICT_KEY, Running, internal, key, refused


async def test_bytes_at_hand_are_judged_without_asking_storage(moderation: Running) -> None:
    data = encode(scene(1))
    request = pb.ModerateImageRequest(asset_id="ast_unread", asset_bytes=data)
    verdict = (await moderation.stub.ModerateImage(request, metadata=internal())).verdict
    assert (verdict.asset_id, verdict.sha256) == ("ast_unread", hashlib.sha256(data).hexdigest())
    assert verdict.length == len(data)


async def test_what_lets_an_asset_out_is_sealed_for_storage(moderation: Running) -> None:
    data = encode(scene(1))
    request = pb.ModerateImageRequest(asset_id="ast_1", asset_bytes=data)
    answer = await moderation.stub.ModerateImage(request, metadata=internal())
    sealed = Sealer.parse(VERDICT_KEY).sha256_of(answer.seal, "acme", "ast_1", answer.verdict.verdict_id)
    assert sealed == answer.verdict.sha256 == hashlib.sha256(data).hexdigest()


async def test_nothing_else_is_sealed(moderation: Running) -> None:
    data = encode(scene(1))
    inline = pb.ModerateImageRequest(inline=data)
    assert not (await moderation.stub.ModerateImage(inline, metadata=internal())).seal
    assert not (await moderation.stub.ModerateImage(inline, metadata=key("acme"))).seal
    blocked = BlockedHash("h1", Category.SEXUAL, None, hashlib.sha256(data).hexdigest())
    await moderation.moderation.store.block([blocked], "tests")
    request = pb.ModerateImageRequest(asset_id="ast_1", asset_bytes=data)
    answer = await moderation.stub.ModerateImage(request, metadata=internal())
    assert (answer.verdict.decision, answer.seal) == (verdict_pb2.DECISION_BLOCK, "")


@pytest.mark.parametrize(("asset_id", "role"), [("ast_1", "acme"), ("", "mesh")])
async def test_from_a_caller_or_without_an_asset_they_are_refused(
    moderation: Running, asset_id: str, role: str
) -> None:
    data = encode(scene(1))
    request = pb.ModerateImageRequest(asset_bytes=data)
    if asset_id:
        request.asset_id = asset_id
    else:
        request.inline = data
    metadata = internal() if role == "mesh" else key(role)
    error = await refused(moderation.stub.ModerateImage(request, metadata=metadata))
    assert error.code is Code.INVALID_ARGUMENT
    assert "asset_bytes" in error.message
