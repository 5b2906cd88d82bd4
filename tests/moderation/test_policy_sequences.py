"""Whatever operators send, in whatever order: one live version, and no policy that lets minors be harmed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc.aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

from tests.moderation.policy_rig import ARCHIVED, DRAFT, LIVE, SHADOW, Rig
from tests.moderation.running import key, running

MINORS = "a nude child"
MINORS_CATEGORY = verdict_pb2.CATEGORY_SEXUAL_MINORS
SCORES = st.one_of(st.none(), st.sampled_from([0.0, 0.2, 0.35, 0.5, 0.51, 0.9, 1.0, float("nan"), -1.0, 2.0]))

LOOSENED = st.fixed_dictionaries(
    {
        "flag": SCORES,
        "review": SCORES,
        "block": SCORES,
        "review_decision": st.sampled_from([0, 1, 2, 3, 4, 77]),
        "failure_mode": st.sampled_from([0, 1, 2]),
        "negative_prompt_weight": st.sampled_from([0.0, 0.5, 1.0]),
        "benign": st.lists(st.sampled_from([MINORS, "nude child", "child", "nude"]), max_size=3),
        "keep_lists": st.booleans(),
        "keep_minors": st.booleans(),
        "tenant": st.sampled_from(["", "acme"]),
    }
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), LOOSENED),
        st.tuples(st.just("move"), st.tuples(st.integers(0, 5), st.sampled_from([LIVE, SHADOW, DRAFT, ARCHIVED]))),
    ),
    min_size=1,
    max_size=8,
)


def loosened(base: policy_pb2.Policy, wish: Mapping[str, Any]) -> policy_pb2.Policy:
    policy = policy_pb2.Policy()
    policy.CopyFrom(base)
    policy.tenant = wish["tenant"]
    policy.policy_id = "acme-own" if wish["tenant"] else "default"
    policy.review_decision, policy.failure_mode = wish["review_decision"], wish["failure_mode"]
    policy.negative_prompt_weight = wish["negative_prompt_weight"]
    policy.benign_phrases.extend(wish["benign"])
    if not wish["keep_lists"]:
        del policy.lists[:]
    if not wish["keep_minors"]:
        kept = [limits for limits in policy.thresholds if limits.category != MINORS_CATEGORY]
        del policy.thresholds[:]
        policy.thresholds.extend(kept)
    for limits in policy.thresholds:
        for tier in ("flag", "review", "block"):
            limits.ClearField(tier)  # type: ignore[arg-type]  # each of the three is a field
            if wish[tier] is not None:
                setattr(limits, tier, wish[tier])
    return policy


async def step(rig: Rig, base: policy_pb2.Policy, kind: str, wish: Any) -> None:
    """One thing an operator does; the mesh may refuse it."""
    versions = await rig.all()
    if kind == "set":
        policy = loosened(base, wish)
        newest = next((found for found in versions if found.policy_id == policy.policy_id), None)
        await rig.set(policy, "" if newest is None else newest.etag)
    else:
        place, state = wish
        await rig.move(versions[place % len(versions)], state)


async def check(rig: Rig) -> None:
    live = [policy.policy_id for policy in await rig.all(LIVE)]
    assert live.count("default") == 1
    assert live.count("acme-own") <= 1
    for kind in (verdict_pb2.TEXT_KIND_PROMPT, verdict_pb2.TEXT_KIND_NEGATIVE_PROMPT):
        for metadata in (key("acme"), key("other")):
            verdict = await rig.service.prompt(MINORS, kind, metadata=metadata)
            assert verdict.decision == verdict_pb2.DECISION_BLOCK


@given(STEPS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_no_sequence_of_changes_harms_minors(steps: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(f"sqlite:///{Path(folder) / 'm.db'}") as service:
            rig = Rig(service)
            base = await rig.get()
            for kind, wish in steps:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await step(rig, base, kind, wish)
                await check(rig)


async def test_the_sequences_do_reach_loose_policies(moderation: Any) -> None:
    """As loose as it may be, and live: everything else passes, and minors are still blocked."""
    rig = Rig(moderation)
    policy = await rig.get()
    for limits in policy.thresholds:
        if limits.category != MINORS_CATEGORY:
            for tier in ("flag", "review", "block"):
                limits.ClearField(tier)  # type: ignore[arg-type]  # each of the three is a field
    policy.benign_phrases.extend([MINORS, "nude child"])
    policy.review_decision = verdict_pb2.DECISION_FLAG
    await rig.move(await rig.set(policy, policy.etag), LIVE)
    assert (await moderation.prompt("porn")).decision == verdict_pb2.DECISION_ALLOW
    await check(rig)
