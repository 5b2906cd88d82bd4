"""Asking moderation. It remembers its verdicts, so asking again after a takeover gives the same answer."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import grpc.aio
from imagemesh.moderation.v1 import (
    moderation_service_pb2,
    moderation_service_pb2_grpc,
    verdict_pb2,
)

from mesh.channel import as_tenant
from mesh.status import peer_errors

TEXT_TIMEOUT = 10.0
IMAGE_TIMEOUT = 60.0
EXPIRED_LAYER = "review-expired"


class Decision(enum.StrEnum):
    """What a verdict lets happen."""

    ALLOW = "ALLOW"
    FLAG = "FLAG"
    REVIEW = "REVIEW"
    BLOCK = "BLOCK"

    @property
    def lets_pass(self) -> bool:
        """True for ALLOW and FLAG."""
        return self in (Decision.ALLOW, Decision.FLAG)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What moderation said. `message` is the serialised `imagemesh.moderation.v1.Verdict`, kept as it came."""

    verdict_id: str
    decision: Decision
    policy: str
    """Policy id and version: another one may judge differently."""
    sha256: str
    message: bytes
    expired: bool = False
    """Nobody decided in time: BLOCK for want of a person's decision."""
    seal: str = field(default="", repr=False, compare=False)
    """Moderation's proof for storage, while it is at hand."""


@dataclass(frozen=True, slots=True)
class Subject:
    """On whose behalf a judgement is asked."""

    tenant: str
    job_id: str
    user: str = ""


class Moderation(Protocol):
    """What the pipeline needs of moderation. Every method raises `mesh.errors.Unavailable` while it does not answer."""

    async def judge_texts(self, subject: Subject, texts: Mapping[str, str]) -> Verdict:
        """All texts of a job together, by kind (`PROMPT`, `NEGATIVE_PROMPT`, …)."""

    async def judge_image(self, subject: Subject, asset_id: str, data: bytes = b"") -> Verdict:
        """One stored picture; without its `data` moderation reads the bytes from storage."""


class ModerationPeer:
    """`Moderation` over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = moderation_service_pb2_grpc.ModerationServiceStub(channel)

    async def judge_texts(self, subject: Subject, texts: Mapping[str, str]) -> Verdict:
        """See `Moderation.judge_texts`."""
        request = moderation_service_pb2.ModeratePromptRequest(
            texts=[
                moderation_service_pb2.PromptText(kind=verdict_pb2.TextKind.Value(f"TEXT_KIND_{kind}"), text=text)
                for kind, text in texts.items()
                if text
            ],
            user=subject.user,
            job_id=subject.job_id,
        )
        with peer_errors("moderation"):
            answer = await self._stub.ModeratePrompt(request, metadata=as_tenant(subject.tenant), timeout=TEXT_TIMEOUT)
        return read_verdict(answer.verdict)

    async def judge_image(self, subject: Subject, asset_id: str, data: bytes = b"") -> Verdict:
        """See `Moderation.judge_image`."""
        request = moderation_service_pb2.ModerateImageRequest(
            asset_id=asset_id, user=subject.user, job_id=subject.job_id, asset_bytes=data
        )
        with peer_errors("moderation"):
            answer = await self._stub.ModerateImage(request, metadata=as_tenant(subject.tenant), timeout=IMAGE_TIMEOUT)
        return replace(read_verdict(answer.verdict), seal=answer.seal)


def read_verdict(message: verdict_pb2.Verdict) -> Verdict:
    """The message as a value; a decision this version does not know blocks."""
    name = verdict_pb2.Decision.Name(message.decision).removeprefix("DECISION_")
    decision = Decision(name) if name in Decision.__members__ else Decision.BLOCK
    return Verdict(
        verdict_id=message.verdict_id,
        decision=decision,
        policy=f"{message.policy_id}:{message.policy_version}",
        sha256=message.sha256,
        message=message.SerializeToString(),
        expired=message.layer == EXPIRED_LAYER,
    )
