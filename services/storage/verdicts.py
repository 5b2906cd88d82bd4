"""May this content be published? Moderation's seal says so, or moderation itself, through a port."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import grpc.aio
from imagemesh.moderation.v1 import moderation_service_pb2, moderation_service_pb2_grpc, verdict_pb2

from mesh.channel import as_tenant
from mesh.errors import FailedPrecondition, NotFound
from mesh.status import peer_errors
from mesh.verdict_seal import Sealer
from services.storage.assets import Decision

TIMEOUT_S = 5.0
IDEMPOTENT = ("/imagemesh.moderation.v1.ModerationService/GetVerdict",)
ALLOWING = frozenset({verdict_pb2.DECISION_ALLOW, verdict_pb2.DECISION_FLAG})


@dataclass(frozen=True)
class Verdict:
    """What storage needs of a verdict: whether it allows, and the sha256 of the bytes it is about."""

    verdict_id: str
    allows: bool
    sha256: str


class Verdicts(Protocol):
    """Where verdicts are read."""

    async def get(self, verdict_id: str, tenant: str) -> Verdict | None:
        """The verdict, None when the tenant has none of that id; Unavailable when moderation does not answer."""


class ModerationVerdicts:
    """Verdicts of the moderation service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._moderation = moderation_service_pb2_grpc.ModerationServiceStub(channel)

    async def get(self, verdict_id: str, tenant: str) -> Verdict | None:
        """See `Verdicts`."""
        request = moderation_service_pb2.GetVerdictRequest(verdict_id=verdict_id)
        try:
            with peer_errors("moderation"):
                answer = await self._moderation.GetVerdict(request, timeout=TIMEOUT_S, metadata=as_tenant(tenant))
        except NotFound:
            return None
        found = answer.verdict
        return Verdict(found.verdict_id, found.decision in ALLOWING, found.sha256)


class KnownVerdicts:
    """Verdicts as they were sealed, and where there is no seal that holds, as moderation tells them."""

    def __init__(self, told: Verdicts, sealer: Sealer) -> None:
        self._told = told
        self._sealer = sealer

    async def of(self, decision: Decision, tenant: str) -> Verdict | None:
        """The verdict that the wish names; otherwise as `Verdicts.get`."""
        sha256 = self._sealer.sha256_of(decision.seal, tenant, decision.asset_id, decision.verdict_id)
        if sha256 is None:
            return await self._told.get(decision.verdict_id, tenant)
        return Verdict(decision.verdict_id, allows=True, sha256=sha256)


def require(verdict: Verdict | None, verdict_id: str, sha256: str) -> None:
    """FailedPrecondition (VERDICT_NOT_FOUND) unless the verdict exists, is about these bytes, and allows them."""
    if verdict is None:
        why = "does not exist"
    elif verdict.sha256 != sha256:
        why = "is about other content"
    elif not verdict.allows:
        why = "does not allow this content"
    else:
        return
    raise FailedPrecondition(f"verdict {verdict_id} {why}", reason="VERDICT_NOT_FOUND")
