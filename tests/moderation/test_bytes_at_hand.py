"""A service of the mesh may bring an asset's bytes along; the verdict is bound to them, and nobody else may."""

from __future__ import annotations

import hashlib

import pytest
from imagemesh.moderation.v1 import moderation_service_pb2 as pb

from mesh.errors import Code
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, internal, key, refused


async def test_bytes_at_hand_are_judged_without_asking_storage(moderation: Running) -> None:
    data = encode(scene(1))
    request = pb.ModerateImageRequest(asset_id="ast_unread", asset_bytes=data)
    verdict = (await moderation.stub.ModerateImage(request, metadata=internal())).verdict
    assert (verdict.asset_id, verdict.sha256) == ("ast_unread", hashlib.sha256(data).hexdigest())
    assert verdict.length == len(data)


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
