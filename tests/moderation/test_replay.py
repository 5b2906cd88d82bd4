"""What a replay tells is what judging again would tell, for what it says it can tell."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

from mesh.errors import Code
from services.moderation import replay_store
from services.moderation.decoding import inspect
from services.moderation.exemptions import exempt
from services.moderation.perceptual import BlockedHash
from services.moderation.verdicts import Category
from tests.moderation.pictures import encode, scene
from tests.moderation.policy_rig import LIVE, OPERATOR, Rig, raise_block
from tests.moderation.running import Running, key, refused, running

PROMPTS = (
    "a nude woman on a sofa",
    "porn",
    "a sexy dancer",
    "a torture scene, beaten to death",
    "a calm lake at dawn",
    "a nude child",
    "severed head on a table, guts everywhere",
    "kill yourself",
    "un chat qui dort sur le lit de ma grand-mère",
)
STRICT = policy_pb2.Safety(level=policy_pb2.SAFETY_LEVEL_STRICTEST)
TIERS = st.tuples(*[st.sampled_from([0.1, 0.3, 0.35, 0.5, 0.6, 0.7, 0.85, 0.9, 0.95, 1.0])] * 3).map(sorted)


async def judged(rig: Rig, job: str) -> dict[str, verdict_pb2.Verdict]:
    """One verdict for each prompt and wish, by what was asked."""
    negative = verdict_pb2.TEXT_KIND_NEGATIVE_PROMPT
    found = {text: await rig.service.prompt(text, job_id=job) for text in PROMPTS}
    found |= {f"strict {text}": await rig.service.prompt(text, job_id=job, safety=STRICT) for text in PROMPTS}
    return found | {f"not {text}": await rig.service.prompt(text, negative, job_id=job) for text in PROMPTS}


@given(
    sexual=TIERS,
    violence=TIERS,
    review=st.sampled_from([verdict_pb2.DECISION_FLAG, verdict_pb2.DECISION_REVIEW, verdict_pb2.DECISION_BLOCK]),
    weight=st.sampled_from([0.1, 0.35, 0.8, 1.0]),
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_replay_equals_judging_again(
    sexual: list[float], violence: list[float], review: verdict_pb2.Decision.ValueType, weight: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with running(f"sqlite:///{Path(folder) / 'm.db'}") as service:
            rig = Rig(service)
            policy = await rig.get()
            raise_block(policy, verdict_pb2.CATEGORY_SEXUAL, *sexual)
            raise_block(policy, verdict_pb2.CATEGORY_VIOLENCE, *violence)
            policy.review_decision, policy.negative_prompt_weight = review, weight
            before = await judged(rig, "job_before")
            draft = await rig.set(policy, policy.etag)
            scored, differences = await rig.replay(draft, page_size=3)
            await rig.move(draft, LIVE)
            after = await judged(rig, "job_after")
    assert scored == len(before)
    expected = {
        verdict.verdict_id: (verdict.decision, after[asked].decision)
        for asked, verdict in before.items()
        if verdict.decision != after[asked].decision
    }
    assert {found.verdict_id: (found.before, found.after) for found in differences.values()} == expected


async def test_a_language_that_the_version_names(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    french = await rig.service.prompt(PROMPTS[-1])
    german = await rig.service.prompt("eine Katze schläft im Garten neben dem alten Baum")
    assert (french.decision, german.decision) == (verdict_pb2.DECISION_REVIEW, verdict_pb2.DECISION_REVIEW)
    policy = await rig.get()
    policy.languages[:] = ["en", "fr-CA"]
    _, differences = await rig.replay(await rig.set(policy, policy.etag))
    found = {each.verdict_id: each.after for each in differences.values()}
    assert found == {french.verdict_id: verdict_pb2.DECISION_ALLOW}


async def test_terms_and_lists_that_are_gone(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    policy = await rig.get()
    policy.lists.add(name="own", category=verdict_pb2.CATEGORY_ILLEGAL, score=0.9, terms=["zorblax", "quuxum"])
    live = await rig.move(await rig.set(policy, policy.etag), LIVE)
    one, two = [await rig.service.prompt(text) for text in ("a zorblax by the lake", "a quuxum by the lake")]
    own = live.lists[-1]
    own.terms.remove("zorblax")
    draft = await rig.set(live, live.etag)
    (found,) = (await rig.replay(draft))[1].values()
    assert (found.verdict_id, found.before, found.after, found.category) == (
        one.verdict_id,
        verdict_pb2.DECISION_BLOCK,
        verdict_pb2.DECISION_ALLOW,
        verdict_pb2.CATEGORY_ILLEGAL,
    )
    own.score = 0.4
    milder = await rig.set(live, draft.etag)
    assert (await rig.replay(milder))[1][two.verdict_id].after == verdict_pb2.DECISION_FLAG
    live.lists.remove(own)
    without = await rig.set(live, milder.etag)
    assert set((await rig.replay(without))[1]) == {one.verdict_id, two.verdict_id}


@pytest.mark.parametrize(("retention", "seen"), [("PLAIN", True), ("SCRUBBED", True), ("HASHED", False)])
async def test_new_terms_where_the_text_is_kept(moderation: Running, retention: str, seen: bool) -> None:
    rig = Rig(moderation)
    policy = await rig.get()
    policy.text_retention = policy_pb2.TextRetention.Value(f"TEXT_RETENTION_{retention}")
    live = await rig.move(await rig.set(policy, policy.etag), LIVE)
    request = pb.ModeratePromptRequest()
    request.texts.add(kind=verdict_pb2.TEXT_KIND_PROMPT, text="a zorblax\nby the lake")
    request.texts.add(kind=verdict_pb2.TEXT_KIND_NEGATIVE_PROMPT, text="blurry\nquuxum")
    verdict = (await rig.service.stub.ModeratePrompt(request, metadata=key("acme"))).verdict
    live.lists.add(name="own", category=verdict_pb2.CATEGORY_ILLEGAL, score=0.9, terms=["zorblax"])
    draft = await rig.set(live, live.etag)
    assert set((await rig.replay(draft))[1]) == ({verdict.verdict_id} if seen else set())


async def test_a_blocked_picture_stays_blocked(moderation: Running) -> None:
    rig = Rig(moderation)
    picture = encode(scene(1))
    entry = BlockedHash("bhs_1", Category.SEXUAL, None, inspect(picture).sha256)
    await rig.service.moderation.store.block([entry], "test")
    assert (await rig.service.image(picture)).decision == verdict_pb2.DECISION_BLOCK
    policy = await rig.get()
    raise_block(policy, verdict_pb2.CATEGORY_SEXUAL, 1.0, 1.0, 1.0)
    assert await rig.replay(await rig.set(policy, policy.etag)) == (1, {})


async def test_whose_decisions_are_replayed(moderation: Running) -> None:
    rig = Rig(moderation)
    for name in ("acme", "other"):
        await rig.service.prompt("porn", metadata=key(name))
    policy = await rig.get()
    draft = await rig.set(policy, policy.etag)
    assert (await rig.replay(draft))[0] == 2
    policy.tenant, policy.policy_id = "acme", "acme-own"
    own = await rig.set(policy, "")
    assert (await rig.replay(own))[0] == 1


async def test_an_exempted_prompt_would_be_blocked_again(moderation: Running) -> None:
    rig = Rig(moderation)
    verdict = await rig.service.prompt("porn")
    await rig.service.database.write(lambda c: exempt(c, "acme", verdict.sha256, "default", verdict.policy_version))
    passed = await rig.service.prompt("porn")
    policy = await rig.get()
    assert set((await rig.replay(await rig.set(policy, policy.etag)))[1]) == {passed.verdict_id}


async def test_pages_are_bounded(moderation: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(moderation)
    monkeypatch.setattr(replay_store, "CHUNK", 2)
    monkeypatch.setattr(replay_store, "PAGE_VERDICTS", 4)
    for _ in range(9):
        await rig.service.prompt("a calm lake")
    policy = await rig.get()
    draft = await rig.set(policy, policy.etag)
    request = pb.ReplayPolicyRequest(policy_id="default", version=draft.version)
    first = await rig.service.stub.ReplayPolicy(request, metadata=OPERATOR)
    assert (first.scored, first.changed, bool(first.next_page_token)) == (4, 0, True)
    assert await rig.replay(draft) == (9, {})


async def test_requests_that_are_wrong(moderation: Running) -> None:
    rig = Rig(moderation)
    wrong = {
        "policy_id": pb.ReplayPolicyRequest(version=1),
        "version": pb.ReplayPolicyRequest(policy_id="default"),
        "page_size": pb.ReplayPolicyRequest(policy_id="default", version=1, page_size=-1),
        "page_token": pb.ReplayPolicyRequest(policy_id="default", version=1, page_token="x"),
        "from_time.seconds": pb.ReplayPolicyRequest(policy_id="default", version=1),
    }
    wrong["from_time.seconds"].from_time.seconds = 2**60
    for field, request in wrong.items():
        error = await refused(rig.service.stub.ReplayPolicy(request, metadata=OPERATOR))
        assert (error.code, [violation.field for violation in error.violations]) == (Code.INVALID_ARGUMENT, [field])
    missing = pb.ReplayPolicyRequest(policy_id="default", version=77)
    error = await refused(rig.service.stub.ReplayPolicy(missing, metadata=OPERATOR))
    assert error.reason == "POLICY_NOT_FOUND"
