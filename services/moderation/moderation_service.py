"""The edge of ModerationService: decode, call, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio
from imagemesh.moderation.v1 import moderation_service_pb2 as pb2
from imagemesh.moderation.v1 import moderation_service_pb2_grpc

from mesh import telemetry
from mesh.auth import principal
from mesh.errors import invalid
from mesh.validation import check
from mesh.verdict_seal import Let, Sealer
from services.moderation import wire
from services.moderation.judging import Asker, Judge
from services.moderation.policy_service import PolicyDesk
from services.moderation.verdicts import Decision, Verdict

Context = grpc.aio.ServicerContext[Any, Any]

verdicts = telemetry.counter("imagemesh.moderation.verdicts", "{verdict}", "Verdicts by subject and decision.")


class ModerationService(moderation_service_pb2_grpc.ModerationServiceServicer):
    """Judges, and tells verdicts and policies."""

    def __init__(self, judge: Judge, policies: PolicyDesk, sealer: Sealer) -> None:
        self._judge = judge
        self._policies = policies
        self._sealer = sealer

    async def ModeratePrompt(self, request: pb2.ModeratePromptRequest, context: Context) -> pb2.ModeratePromptResponse:
        """See the contract."""
        texts = wire.texts_of(request)
        with telemetry.span("moderation judge prompt") as span:
            verdict = await self._judge.prompt(texts, _asker(request))
            _tell(span, verdict)
        return pb2.ModeratePromptResponse(verdict=wire.verdict_out(verdict))

    async def ModerateImage(self, request: pb2.ModerateImageRequest, context: Context) -> pb2.ModerateImageResponse:
        """See the contract."""
        image = wire.image_of(request, internal=principal().internal)
        with telemetry.span("moderation judge image") as span:
            verdict = await self._judge.image(image, _asker(request))
            _tell(span, verdict)
        seal = self._seal(verdict) if principal().internal else ""
        return pb2.ModerateImageResponse(verdict=wire.verdict_out(verdict), seal=seal)

    async def GetVerdict(self, request: pb2.GetVerdictRequest, context: Context) -> pb2.GetVerdictResponse:
        """See the contract."""
        check(request, wire.VERDICT_RULES)
        verdict = await self._judge.verdict(request.verdict_id, principal().tenant)
        return pb2.GetVerdictResponse(verdict=wire.verdict_out(verdict))

    async def GetPolicy(self, request: pb2.GetPolicyRequest, context: Context) -> pb2.GetPolicyResponse:
        """See the contract."""
        return await self._policies.get(request)

    async def ListPolicies(self, request: pb2.ListPoliciesRequest, context: Context) -> pb2.ListPoliciesResponse:
        """See the contract."""
        return await self._policies.page(request)

    async def SetPolicy(self, request: pb2.SetPolicyRequest, context: Context) -> pb2.SetPolicyResponse:
        """See the contract."""
        return await self._policies.set(request)

    async def SetPolicyState(self, request: pb2.SetPolicyStateRequest, context: Context) -> pb2.SetPolicyStateResponse:
        """See the contract."""
        return await self._policies.set_state(request)

    async def ReplayPolicy(self, request: pb2.ReplayPolicyRequest, context: Context) -> pb2.ReplayPolicyResponse:
        """See the contract."""
        return await self._policies.replay(request)

    def _seal(self, verdict: Verdict) -> str:
        """For storage, on a verdict that lets an asset out; empty on any other."""
        subject = verdict.subject
        if not subject.asset_id or verdict.judgement.decision not in (Decision.ALLOW, Decision.FLAG):
            return ""
        return self._sealer.seal(Let(subject.tenant, subject.asset_id, verdict.verdict_id, subject.sha256))


def _asker(request: pb2.ModeratePromptRequest | pb2.ModerateImageRequest) -> Asker:
    caller = principal()
    if not caller.tenant:
        raise invalid("x-imagemesh-tenant", "an internal call names the tenant in this metadata")
    return Asker(
        caller.tenant,
        caller.key_id,
        telemetry.current().trace_id,
        request.job_id,
        request.user,
        wire.safety_of(request.safety),
    )


def _tell(span: telemetry.Span, verdict: Verdict) -> None:
    """What may be known of a verdict outside the database: never the text."""
    facts: dict[str, telemetry.Value] = {
        "imagemesh.verdict.id": verdict.verdict_id,
        "imagemesh.verdict.decision": verdict.judgement.decision.name,
        "imagemesh.content.sha256": verdict.subject.sha256,
        "imagemesh.content.length": verdict.subject.length,
        "imagemesh.policy": f"{verdict.policy_id}@{verdict.policy_version}",
    }
    for key, value in facts.items():
        span.set(key, value)
    verdicts.add(1, {"subject": verdict.subject.kind.value, "decision": verdict.judgement.decision.name})
