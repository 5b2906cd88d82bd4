"""The edge of ModerationService: decode, call, encode."""

from __future__ import annotations

from typing import Any

import grpc.aio
from imagemesh.moderation.v1 import moderation_service_pb2 as pb2
from imagemesh.moderation.v1 import moderation_service_pb2_grpc, policy_pb2

from mesh import telemetry
from mesh.auth import OPERATOR, principal
from mesh.errors import NotFound, invalid, unimplemented
from mesh.paging import decode_token, encode_token, page_size
from mesh.validation import check
from services.moderation import wire
from services.moderation.judging import Asker, Judge
from services.moderation.policies import Policy, PolicyBook
from services.moderation.verdicts import Verdict

Context = grpc.aio.ServicerContext[Any, Any]
POLICY_FILES = "policies come from the files beside IMAGEMESH_POLICY, read when the service starts"

verdicts = telemetry.counter("imagemesh.moderation.verdicts", "{verdict}", "Verdicts by subject and decision.")


class ModerationService(moderation_service_pb2_grpc.ModerationServiceServicer):
    """Judges, and tells verdicts and policies."""

    def __init__(self, judge: Judge, book: PolicyBook) -> None:
        self._judge = judge
        self._book = book

    async def ModeratePrompt(self, request: pb2.ModeratePromptRequest, context: Context) -> pb2.ModeratePromptResponse:
        """See the contract."""
        texts = wire.texts_of(request)
        with telemetry.span("moderation judge prompt") as span:
            verdict = await self._judge.prompt(texts, _asker(request))
            _tell(span, verdict)
        return pb2.ModeratePromptResponse(verdict=wire.verdict_out(verdict))

    async def ModerateImage(self, request: pb2.ModerateImageRequest, context: Context) -> pb2.ModerateImageResponse:
        """See the contract."""
        image = wire.image_of(request)
        with telemetry.span("moderation judge image") as span:
            verdict = await self._judge.image(image, _asker(request))
            _tell(span, verdict)
        return pb2.ModerateImageResponse(verdict=wire.verdict_out(verdict))

    async def GetVerdict(self, request: pb2.GetVerdictRequest, context: Context) -> pb2.GetVerdictResponse:
        """See the contract."""
        check(request, wire.VERDICT_RULES)
        verdict = await self._judge.verdict(request.verdict_id, principal().tenant)
        return pb2.GetVerdictResponse(verdict=wire.verdict_out(verdict))

    async def GetPolicy(self, request: pb2.GetPolicyRequest, context: Context) -> pb2.GetPolicyResponse:
        """See the contract."""
        if not request.policy_id:
            found: Policy | None = self._book.for_tenant(principal().tenant)
        else:
            found = self._book.find(request.policy_id)
        if found is None or not _visible(found) or request.version not in (0, found.version):
            raise NotFound(f"there is no policy {request.policy_id!r} in that version", reason="POLICY_NOT_FOUND")
        return pb2.GetPolicyResponse(policy=wire.policy_out(found))

    async def ListPolicies(self, request: pb2.ListPoliciesRequest, context: Context) -> pb2.ListPoliciesResponse:
        """See the contract."""
        size, scope = page_size(request.page_size), f"policies:{_tenant_or_all()}:{request.state}"
        after = str(decode_token(request.page_token, scope)[0]) if request.page_token else ""
        live = request.state in (policy_pb2.POLICY_STATE_UNSPECIFIED, policy_pb2.POLICY_STATE_LIVE)
        shown = [p for p in self._book.all() if live and _visible(p) and p.policy_id > after]
        token = encode_token((shown[size - 1].policy_id,), scope) if len(shown) > size else ""
        return pb2.ListPoliciesResponse(policies=map(wire.policy_out, shown[:size]), next_page_token=token)

    async def SetPolicy(self, request: pb2.SetPolicyRequest, context: Context) -> pb2.SetPolicyResponse:
        """Belongs to a later version."""
        raise unimplemented("SetPolicy", POLICY_FILES)

    async def SetPolicyState(self, request: pb2.SetPolicyStateRequest, context: Context) -> pb2.SetPolicyStateResponse:
        """Belongs to a later version."""
        raise unimplemented("SetPolicyState", POLICY_FILES)

    async def ReplayPolicy(self, request: pb2.ReplayPolicyRequest, context: Context) -> pb2.ReplayPolicyResponse:
        """Belongs to a later version."""
        raise unimplemented("ReplayPolicy", POLICY_FILES)


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


def _tenant_or_all() -> str:
    """The tenant whose policies the caller sees; empty for one that sees all."""
    caller = principal()
    return "" if OPERATOR in caller.roles else caller.tenant


def _visible(policy: Policy) -> bool:
    tenant = _tenant_or_all()
    return not tenant or policy.document.tenant in ("", tenant)


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
