"""The real adapter to moderation, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from imagemesh.moderation.v1 import moderation_service_pb2, moderation_service_pb2_grpc, verdict_pb2

from mesh.auth import Authenticator, principal
from mesh.channel import ChannelConfig, open_channel
from mesh.errors import FailedPrecondition, NotFound, Unavailable
from mesh.server import Server, ServerConfig
from services.storage.verdicts import IDEMPOTENT, ModerationVerdicts, Verdict, require
from tests.storage.running import TOKEN, Keys

DECISIONS = {f"ver_{name.lower()}": number for name, number in verdict_pb2.Decision.items()}


class Moderation(moderation_service_pb2_grpc.ModerationServiceServicer):
    async def GetVerdict(self, request: Any, context: Any) -> moderation_service_pb2.GetVerdictResponse:
        if request.verdict_id not in DECISIONS or principal().tenant != "acme":
            raise NotFound("no such verdict", reason="VERDICT_NOT_FOUND")
        verdict = verdict_pb2.Verdict(
            verdict_id=request.verdict_id, decision=DECISIONS[request.verdict_id], sha256="ab" * 32
        )
        return moderation_service_pb2.GetVerdictResponse(verdict=verdict)


@pytest.fixture
async def moderation() -> AsyncIterator[Server]:
    server = Server(ServerConfig(drain_seconds=1), Authenticator(TOKEN, Keys()))
    descriptor = moderation_service_pb2.DESCRIPTOR.services_by_name["ModerationService"]
    server.add(descriptor, Moderation(), moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def channel(moderation: Server) -> AsyncIterator[grpc.aio.Channel]:
    config = ChannelConfig(f"127.0.0.1:{moderation.port}", mesh_token=TOKEN, idempotent=IDEMPOTENT)
    async with open_channel(config) as channel:
        yield channel


@pytest.mark.parametrize("verdict_id", DECISIONS)
async def test_allow_and_flag_allow_and_nothing_else(channel: grpc.aio.Channel, verdict_id: str) -> None:
    allows = verdict_id in ("ver_decision_allow", "ver_decision_flag")
    found = await ModerationVerdicts(channel).get(verdict_id, "acme")
    assert found == Verdict(verdict_id, allows, "ab" * 32)


async def test_what_moderation_does_not_know_is_none(channel: grpc.aio.Channel) -> None:
    assert await ModerationVerdicts(channel).get("ver_never", "acme") is None
    assert await ModerationVerdicts(channel).get("ver_decision_allow", "other") is None


async def test_moderation_being_away_is_unavailable() -> None:
    async with open_channel(ChannelConfig("127.0.0.1:1", mesh_token=TOKEN)) as channel:
        with pytest.raises(Unavailable) as caught:
            await ModerationVerdicts(channel).get("ver_1", "acme")
        assert caught.value.metadata == {"peer": "moderation"}


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (None, "does not exist"),
        (Verdict("v", True, "cd" * 32), "other content"),
        (Verdict("v", False, "ab" * 32), "does not allow"),
    ],
)
def test_what_is_not_enough(verdict: Verdict | None, why: str) -> None:
    with pytest.raises(FailedPrecondition, match=why) as caught:
        require(verdict, "v", "ab" * 32)
    assert caught.value.reason == "VERDICT_NOT_FOUND"
