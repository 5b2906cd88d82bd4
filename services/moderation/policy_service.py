"""The rpcs about policies: decode, call, encode. Whoever changes one tells every moderation process at once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from imagemesh.moderation.v1 import moderation_service_pb2 as pb2
from imagemesh.moderation.v1 import policy_pb2

from mesh import telemetry
from mesh.auth import OPERATOR, principal
from mesh.errors import FailedPrecondition, invalid
from mesh.paging import decode_token, encode_token, page_size
from mesh.validation import check
from services.moderation import policy_wire as wire
from services.moderation.policy_changes import Who, not_found
from services.moderation.policy_shelf import PolicyShelf
from services.moderation.policy_store import Page, PolicyStore
from services.moderation.policy_versions import State, Version
from services.moderation.replay import Difference
from services.moderation.replay_store import Replays, Span
from services.moderation.wire import category_out, decision_out

PAGE_BYTES = 3 * 1024 * 1024
REPLAYED_SECONDS = 7 * 86_400
END_US = 2**62  # the database's clock tells when a verdict was stored, so "now" is whatever there is


@dataclass(frozen=True)
class PolicyDesk:
    """What the rpcs about policies stand on.

    layers: those of this service. tell: lets the other processes know that something changed; it may be lost.
    """

    store: PolicyStore
    shelf: PolicyShelf
    replays: Replays
    layers: Collection[str]
    tell: Callable[[], Awaitable[None]]

    async def get(self, request: pb2.GetPolicyRequest) -> pb2.GetPolicyResponse:
        """See GetPolicy in the contract."""
        check(request, wire.GET_RULES)
        policy_id = request.policy_id
        if not policy_id:
            await self.shelf.refresh()
            policy_id = self.shelf.book.for_tenant(principal().tenant).policy_id
        return pb2.GetPolicyResponse(policy=wire.policy_out(await self._version(policy_id, request.version)))

    async def set(self, request: pb2.SetPolicyRequest) -> pb2.SetPolicyResponse:
        """See SetPolicy in the contract."""
        document = wire.document_of(request, self.layers)
        added = await self.store.add(document, request.etag, _who())
        return pb2.SetPolicyResponse(policy=wire.policy_out(added))

    async def set_state(self, request: pb2.SetPolicyStateRequest) -> pb2.SetPolicyStateResponse:
        """See SetPolicyState in the contract."""
        check(request, wire.STATE_RULES)
        state = wire.STATES[request.state]
        wanted = (request.policy_id, request.version)
        if state in (State.LIVE, State.SHADOW):
            self._refuse_missing_layers(await self._version(*wanted))
        changed = await self.store.set_state(wanted, state, request.etag, _who())
        await self.shelf.refresh()
        await self.tell()
        return pb2.SetPolicyStateResponse(policy=wire.policy_out(changed))

    async def page(self, request: pb2.ListPoliciesRequest) -> pb2.ListPoliciesResponse:
        """See ListPolicies in the contract; a page holds 3 MiB at most, so that every gRPC client can read it."""
        check(request, wire.LIST_RULES)
        size, scope = page_size(request.page_size), f"policies:{_tenant_or_all()}:{request.state}"
        after = decode_token(request.page_token, scope, (str, int)) if request.page_token else None
        page = Page(
            size + 1,
            _tenant_or_all(),
            wire.STATES.get(request.state),
            None if after is None else (str(after[0]), int(after[1])),
        )
        versions = await self.store.page(page)
        shown = list(_fitting(versions[:size]))
        last = versions[len(shown) - 1].entry if shown else None
        token = encode_token(last.key, scope) if last is not None and len(versions) > len(shown) else ""
        return pb2.ListPoliciesResponse(policies=shown, next_page_token=token)

    async def replay(self, request: pb2.ReplayPolicyRequest) -> pb2.ReplayPolicyResponse:
        """See ReplayPolicy in the contract."""
        check(request, wire.REPLAY_RULES)
        size, span, scope = page_size(request.page_size), _span(request), _replay_scope(request)
        if request.page_token:
            at, verdict_id, from_us, to_us = decode_token(request.page_token, scope, (int, str, int, int))
            span = Span(int(from_us), int(to_us), (int(at), str(verdict_id)))
        version = await self._version(request.policy_id, request.version)
        page = await self.replays.page(version.policy, span, size)
        token = "" if page.after is None else encode_token((*page.after, span.from_us, span.to_us), scope)
        return pb2.ReplayPolicyResponse(
            scored=page.scored,
            changed=len(page.differences),
            differences=map(_difference_out, page.differences),
            next_page_token=token,
        )

    async def _version(self, policy_id: str, number: int) -> Version:
        found = await self.store.get(policy_id, number)
        if found is None or not _visible(found):
            raise not_found(policy_id, number)
        return found

    def _refuse_missing_layers(self, version: Version) -> None:
        missing = sorted(set(version.policy.document.required_layers) - set(self.layers))
        if missing:
            raise FailedPrecondition(f"required_layers: no {', '.join(missing)} here")


def _who() -> Who:
    return Who(principal().key_id, telemetry.current().trace_id)


def _tenant_or_all() -> str:
    """The tenant whose policies the caller sees; empty for one that sees all."""
    caller = principal()
    return "" if OPERATOR in caller.roles else caller.tenant


def _visible(version: Version) -> bool:
    tenant = _tenant_or_all()
    return not tenant or version.entry.tenant in ("", tenant)


def _fitting(versions: Sequence[Version]) -> Iterator[policy_pb2.Policy]:
    """As many as fit a page, and always one."""
    room = PAGE_BYTES
    for version in versions:
        message = wire.policy_out(version)
        room -= message.ByteSize()
        if room < 0 and version is not versions[0]:
            return
        yield message


def _span(request: pb2.ReplayPolicyRequest) -> Span:
    now_us = time.time_ns() // 1_000
    to_us = request.to_time.ToMicroseconds() if request.HasField("to_time") else END_US
    given = request.HasField("from_time")
    from_us = request.from_time.ToMicroseconds() if given else now_us - REPLAYED_SECONDS * 1_000_000
    if given and request.HasField("to_time") and from_us > to_us:
        raise invalid("from_time", "not after to_time")
    return Span(from_us, to_us)


def _replay_scope(request: pb2.ReplayPolicyRequest) -> str:
    times = (request.from_time.ToMicroseconds(), request.to_time.ToMicroseconds())
    return f"replay:{request.policy_id}:{request.version}:{times[0]}:{times[1]}"


def _difference_out(difference: Difference) -> policy_pb2.PolicyDifference:
    return policy_pb2.PolicyDifference(
        verdict_id=difference.verdict_id,
        before=decision_out(difference.before),
        after=decision_out(difference.after),
        category=category_out(difference.category),
    )
