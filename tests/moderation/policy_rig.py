"""Small ways to store, change and replay policies over a running service."""

from __future__ import annotations

from dataclasses import dataclass

from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

from tests.moderation.running import Running, key

LIVE, SHADOW = policy_pb2.POLICY_STATE_LIVE, policy_pb2.POLICY_STATE_SHADOW
DRAFT, ARCHIVED = policy_pb2.POLICY_STATE_DRAFT, policy_pb2.POLICY_STATE_ARCHIVED
OPERATOR = key("operator")


@dataclass
class Rig:
    service: Running

    async def get(self, policy_id: str = "default", version: int = 0) -> policy_pb2.Policy:
        request = pb.GetPolicyRequest(policy_id=policy_id, version=version)
        return (await self.service.stub.GetPolicy(request, metadata=OPERATOR)).policy

    async def newest(self, policy_id: str = "default") -> policy_pb2.Policy:
        return next(policy for policy in await self.all() if policy.policy_id == policy_id)

    async def all(
        self, state: policy_pb2.PolicyState.ValueType = policy_pb2.POLICY_STATE_UNSPECIFIED
    ) -> list[policy_pb2.Policy]:
        found: list[policy_pb2.Policy] = []
        token = ""
        while True:
            request = pb.ListPoliciesRequest(state=state, page_token=token, page_size=3)
            answer = await self.service.stub.ListPolicies(request, metadata=OPERATOR)
            found += answer.policies
            token = answer.next_page_token
            if not token:
                return found

    async def set(self, policy: policy_pb2.Policy, etag: str) -> policy_pb2.Policy:
        request = pb.SetPolicyRequest(policy=policy, etag=etag)
        return (await self.service.stub.SetPolicy(request, metadata=OPERATOR)).policy

    async def next(self, **changes: object) -> policy_pb2.Policy:
        """A new version of the default: the live one with some fields changed."""
        policy = await self.get()
        for name, value in changes.items():
            setattr(policy, name, value)
        return await self.set(policy, (await self.newest()).etag)

    async def lenient(self) -> policy_pb2.Policy:
        """A new version of the default that only flags sexual content, however sure a layer is."""
        policy = await self.get()
        for limits in policy.thresholds:
            if limits.category == verdict_pb2.CATEGORY_SEXUAL:
                limits.ClearField("review")
                limits.ClearField("block")
        return await self.set(policy, (await self.newest()).etag)

    async def move(self, policy: policy_pb2.Policy, state: policy_pb2.PolicyState.ValueType) -> policy_pb2.Policy:
        request = pb.SetPolicyStateRequest(
            policy_id=policy.policy_id, version=policy.version, state=state, etag=policy.etag
        )
        return (await self.service.stub.SetPolicyState(request, metadata=OPERATOR)).policy

    async def replay(
        self, policy: policy_pb2.Policy, page_size: int = 0
    ) -> tuple[int, dict[str, policy_pb2.PolicyDifference]]:
        """How many were scored over all pages, and the differences by verdict."""
        scored, found, token = 0, {}, ""
        while True:
            request = pb.ReplayPolicyRequest(
                policy_id=policy.policy_id, version=policy.version, page_size=page_size, page_token=token
            )
            answer = await self.service.stub.ReplayPolicy(request, metadata=OPERATOR)
            assert answer.changed == len(answer.differences)
            scored += answer.scored
            found |= {difference.verdict_id: difference for difference in answer.differences}
            token = answer.next_page_token
            if not token:
                return scored, found


def raise_block(policy: policy_pb2.Policy, category: int, flag: float, review: float, block: float) -> None:
    """Sets the thresholds of one category."""
    for limits in policy.thresholds:
        if limits.category == category:
            limits.flag, limits.review, limits.block = flag, review, block
