"""Stored policies: drafts, the one live version, etags, floors, shadows, exemptions; over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

from mesh.errors import Code
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.exemptions import exempt
from services.moderation.policy_tables import POLICIES, POLICIES_VERSION, SHADOW_VERDICTS
from tests.moderation.policy_rig import ARCHIVED, DRAFT, LIVE, OPERATOR, SHADOW, Rig, raise_block
from tests.moderation.running import Running, key, refused, running

NUDE = "a nude woman on a sofa"
FRENCH = "un chat qui dort sur le lit de ma grand-mère"
GORE, SEXUAL, MINORS = (
    verdict_pb2.CATEGORY_GORE,
    verdict_pb2.CATEGORY_SEXUAL,
    verdict_pb2.CATEGORY_SEXUAL_MINORS,
)


@pytest.fixture
def rig(moderation: Running) -> Rig:
    return Rig(moderation)


async def test_a_stored_version_is_a_draft_and_decides_nothing(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    file = await rig.get()
    draft = await rig.next(review_decision=verdict_pb2.DECISION_FLAG)
    assert (draft.state, draft.tenant, draft.policy_id) == (DRAFT, "", "default")
    assert draft.version > file.version
    assert draft.create_time.ToMicroseconds() > 0
    assert await rig.get(version=draft.version) == draft
    verdict = await rig.service.prompt(NUDE)
    assert (verdict.decision, verdict.policy_version) == (verdict_pb2.DECISION_BLOCK, file.version)


async def test_going_live_and_back_to_the_file(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    file = await rig.get()
    live = await rig.move(await rig.lenient(), LIVE)
    verdict = await rig.service.prompt(NUDE)
    assert (verdict.decision, verdict.policy_version) == (verdict_pb2.DECISION_FLAG, live.version)
    assert (await rig.get(version=file.version)).state == ARCHIVED
    await rig.move(await rig.get(version=file.version), LIVE)
    assert (await rig.get(version=live.version)).state == ARCHIVED
    assert (await rig.service.prompt(NUDE)).policy_version == file.version


async def test_what_was_stored_is_told_field_for_field(rig: Rig) -> None:
    policy = await rig.get()
    policy.languages[:] = ["en", "pt-BR"]
    policy.text_retention = policy_pb2.TEXT_RETENTION_SCRUBBED
    policy.strikes.count, policy.strikes.consequence = 5, policy_pb2.STRIKE_CONSEQUENCE_REVIEW
    policy.retention.FromSeconds(30 * 86_400)
    policy.negative_prompt_weight, policy.hash_distance = 0, 0
    stored = await rig.set(policy, policy.etag)
    for name in ("version", "state", "etag", "create_time"):
        policy.ClearField(name)
        stored.ClearField(name)
    assert stored == policy


async def test_unset_fields_take_the_strict_defaults(rig: Rig) -> None:
    bare = policy_pb2.Policy(policy_id="bare", tenant="acme")
    bare.thresholds.add(category=MINORS, review=0.3, block=0.5)
    stored = await rig.set(bare, "")
    assert (stored.version, stored.review_decision) == (1, verdict_pb2.DECISION_BLOCK)
    assert (stored.negative_prompt_weight, stored.hash_distance) == (1, 8)
    assert stored.failure_mode == policy_pb2.FAILURE_MODE_CLOSED
    assert stored.text_retention == policy_pb2.TEXT_RETENTION_HASHED
    assert stored.retention.seconds == 365 * 86_400


MISTAKES: dict[str, tuple[Callable[[policy_pb2.Policy], object], str]] = {
    "the floor's block": (lambda p: raise_block(p, MINORS, 0.2, 0.3, 0.9), "policy.thresholds[1].block"),
    "the floor's review": (lambda p: raise_block(p, MINORS, 0.2, 0.45, 0.5), "policy.thresholds[1].review"),
    "no floor at all": (lambda p: p.thresholds.pop(1), "policy.thresholds.SEXUAL_MINORS"),
    "unordered": (lambda p: raise_block(p, GORE, 0.9, 0.5, 0.3), "policy.thresholds[3]"),
    "not a number": (lambda p: raise_block(p, GORE, float("nan"), 0.5, 0.6), "policy.thresholds[3].flag"),
    "a category twice": (lambda p: p.thresholds.add(category=GORE), "policy.thresholds[14].category"),
    "no category": (lambda p: p.thresholds.add(category=99), "policy.thresholds[14].category"),
    "a list twice": (lambda p: p.lists.append(p.lists[0]), "].name"),
    "a term of signs": (lambda p: p.lists[2].terms.append("..."), "policy.lists[2].terms"),
    "a score above one": (lambda p: setattr(p.lists[2], "score", 2), "policy.lists[2].score"),
    "a list's name": (lambda p: setattr(p.lists[0], "name", "A b"), "policy.lists"),
    "allow as review": (lambda p: setattr(p, "review_decision", verdict_pb2.DECISION_ALLOW), "policy.review_decision"),
    "weight": (lambda p: setattr(p, "negative_prompt_weight", 1.5), "policy.negative_prompt_weight"),
    "half a day": (lambda p: p.retention.FromSeconds(43_200), "policy.retention"),
    "unknown layer": (lambda p: p.required_layers.append("nsfw-net"), "policy.required_layers[2]"),
    "language": (lambda p: p.languages.append("English"), "policy.languages[1]"),
    "id": (lambda p: setattr(p, "policy_id", "Mine!"), "policy.policy_id"),
    "another default": (lambda p: setattr(p, "policy_id", "mine"), "policy.tenant"),
    "another tenant": (lambda p: setattr(p, "tenant", "acme"), "policy.tenant"),
}


@pytest.mark.parametrize(("change", "field"), MISTAKES.values(), ids=MISTAKES)
async def test_each_mistake_names_its_field(
    rig: Rig, change: Callable[[policy_pb2.Policy], object], field: str
) -> None:
    policy = await rig.get()
    etag = policy.etag
    change(policy)
    error = await refused(rig.set(policy, "" if policy.policy_id == "mine" else etag))
    assert error.code is Code.INVALID_ARGUMENT
    assert any(field in violation.field for violation in error.violations), error.violations
    assert len(await rig.all()) == 1


async def test_a_document_is_bounded(rig: Rig) -> None:
    policy = await rig.get()
    policy.lists[0].terms.extend(f"term {number} {'x' * 150}" for number in range(8_000))
    assert (await refused(rig.set(policy, policy.etag))).code is Code.INVALID_ARGUMENT


async def test_only_operators_change_policies(rig: Rig) -> None:
    policy = await rig.get()
    request = pb.SetPolicyRequest(policy=policy, etag=policy.etag)
    state = pb.SetPolicyStateRequest(policy_id="default", version=1, state=LIVE, etag=policy.etag)
    for name in ("acme", "reviewer"):
        assert (await refused(rig.service.stub.SetPolicy(request, metadata=key(name)))).code is Code.PERMISSION_DENIED
        call = rig.service.stub.SetPolicyState(state, metadata=key(name))
        assert (await refused(call)).code is Code.PERMISSION_DENIED


async def test_an_old_etag_is_refused(rig: Rig) -> None:
    policy = await rig.get()
    first = await rig.set(policy, policy.etag)
    for etag in ("", policy.etag, "nonsense"):
        error = await refused(rig.set(policy, etag))
        assert (error.code, error.reason) == (Code.ABORTED, "STALE_EPOCH")
    shadow = await rig.move(first, SHADOW)
    assert (await refused(rig.move(first, LIVE))).code is Code.ABORTED
    draft = await rig.move(shadow, DRAFT)
    assert draft.etag not in (first.etag, shadow.etag)


async def test_one_of_many_wins_a_race(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    policy = await rig.get()
    results = await asyncio.gather(*(rig.set(policy, policy.etag) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(result, policy_pb2.Policy) for result in results) == 1
    drafts = [await rig.next() for _ in range(4)]
    await asyncio.gather(*(rig.move(draft, LIVE) for draft in drafts))
    assert len(await rig.all(LIVE)) == 1
    draft = await rig.next()
    moves = (rig.move(draft, state) for state in (LIVE, SHADOW, ARCHIVED, LIVE))
    results = await asyncio.gather(*moves, return_exceptions=True)
    assert sum(isinstance(result, policy_pb2.Policy) for result in results) == 1


async def test_states_that_cannot_be(rig: Rig) -> None:
    file = await rig.get()
    for state in (DRAFT, SHADOW, ARCHIVED):
        error = await refused(rig.move(file, state))
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    for request in (
        pb.SetPolicyStateRequest(policy_id="default", version=9, state=LIVE, etag="x"),
        pb.SetPolicyStateRequest(policy_id="other", version=1, state=LIVE, etag="x"),
    ):
        error = await refused(rig.service.stub.SetPolicyState(request, metadata=OPERATOR))
        assert (error.code, error.reason) == (Code.NOT_FOUND, "POLICY_NOT_FOUND")


async def test_a_tenant_has_one_live_policy(rig: Rig) -> None:
    default = await rig.get()
    default.tenant, default.review_decision = "acme", verdict_pb2.DECISION_FLAG
    made = []
    for name in ("acme-one", "acme-two"):
        default.policy_id = name
        made.append(await rig.set(default, ""))
    first = await rig.move(made[0], LIVE)
    assert (await rig.service.prompt(NUDE)).policy_id == "acme-one"
    assert (await rig.service.prompt(NUDE, metadata=key("other"))).policy_id == "default"
    error = await refused(rig.move(made[1], LIVE))
    assert (error.code, error.metadata["policy_id"]) == (Code.FAILED_PRECONDITION, "acme-one")
    await rig.move(first, ARCHIVED)
    assert (await rig.service.prompt(NUDE)).policy_id == "default"
    seen = await rig.service.stub.ListPolicies(pb.ListPoliciesRequest(), metadata=key("other"))
    assert [policy.policy_id for policy in seen.policies] == ["default"]


async def test_changes_are_audited(rig: Rig) -> None:
    first = await rig.move(await rig.next(), LIVE)
    second = await rig.move(await rig.next(), LIVE)
    records = [row for row in await rig.service.rows(AUDIT_RECORDS) if row["action"] == "POLICY_CHANGED"]
    told = [(row["policy_version"], row["actor"]) for row in records]
    assert told == [(v, "key_p") for v in (first.version, first.version, second.version, first.version, second.version)]
    assert records[-1]["policy_etag"] == second.etag


async def test_every_process_judges_by_the_policy_that_is_live(database_url: str) -> None:
    """No NATS, no waiting: the other process notices when it is about to store a verdict."""
    async with running(database_url) as one, running(database_url) as two:
        rig = Rig(one)
        assert (await two.prompt(NUDE)).decision == verdict_pb2.DECISION_BLOCK
        live = await rig.move(await rig.lenient(), LIVE)
        verdict = await two.prompt(NUDE)
        assert (verdict.decision, verdict.policy_version) == (verdict_pb2.DECISION_FLAG, live.version)


async def test_the_poll_finds_a_change(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    async with running(url) as one, running(url) as two:
        rig = Rig(one)
        live = await rig.move(await rig.next(), LIVE)
        async with asyncio.timeout(10):
            while two.moderation.policies.shelf.book.for_tenant("acme").version != live.version:
                await asyncio.sleep(0.02)


async def test_a_shadow_is_recorded_and_decides_nothing(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    shadow = await rig.move(await rig.lenient(), SHADOW)
    verdict = await rig.service.prompt(NUDE, job_id="job_1")
    await rig.service.prompt(NUDE, job_id="job_1")
    assert verdict.decision == verdict_pb2.DECISION_BLOCK
    (row,) = await rig.service.rows(SHADOW_VERDICTS)
    assert (row["verdict_id"], row["policy_version"]) == (verdict.verdict_id, shadow.version)
    assert (row["before"], row["decision"]) == ("BLOCK", "FLAG")


@pytest.mark.parametrize(("languages", "decision"), [(["en"], "BLOCK"), (["en", "fr"], "ALLOW"), ([], "ALLOW")])
async def test_a_shadow_has_a_gate_of_its_own_for_languages(rig: Rig, languages: list[str], decision: str) -> None:
    policy = await rig.get()
    policy.review_decision = verdict_pb2.DECISION_BLOCK
    policy.languages[:] = languages
    await rig.move(await rig.set(policy, policy.etag), SHADOW)
    verdict = await rig.service.prompt(FRENCH)
    assert verdict.decision == verdict_pb2.DECISION_REVIEW
    (row,) = await rig.service.rows(SHADOW_VERDICTS)
    assert (row["before"], row["decision"]) == ("REVIEW", decision)


async def test_a_second_shadow_takes_the_firsts_place(rig: Rig) -> None:
    first = await rig.move(await rig.next(), SHADOW)
    second = await rig.move(await rig.next(), SHADOW)
    assert (await rig.get(version=first.version)).state == DRAFT
    assert [policy.version for policy in await rig.all(SHADOW)] == [second.version]


async def test_an_exempted_prompt_passes_for_that_tenant_and_version(moderation_on_each: Running) -> None:
    rig = Rig(moderation_on_each)
    blocked = await rig.service.prompt(NUDE, job_id="job_1")
    await rig.service.database.write(
        lambda c: exempt(c, "acme", blocked.sha256, blocked.policy_id, blocked.policy_version)
    )
    again = await rig.service.prompt(NUDE, job_id="job_1")
    assert again.decision == verdict_pb2.DECISION_ALLOW
    assert again.verdict_id != blocked.verdict_id
    assert (await rig.service.prompt(NUDE, metadata=key("other"))).decision == verdict_pb2.DECISION_BLOCK
    assert (await rig.service.prompt(NUDE + "!")).decision == verdict_pb2.DECISION_BLOCK
    await rig.move(await rig.next(), LIVE)
    assert (await rig.service.prompt(NUDE, job_id="job_1")).decision == verdict_pb2.DECISION_BLOCK


async def test_a_person_who_lets_a_foreign_text_through_has_judged_it(moderation: Running) -> None:
    rig = Rig(moderation)
    await rig.move(await rig.next(review_decision=verdict_pb2.DECISION_BLOCK), LIVE)
    blocked = await moderation.prompt(FRENCH)
    assert (blocked.decision, blocked.layer) == (verdict_pb2.DECISION_BLOCK, "language")
    await moderation.database.write(lambda c: exempt(c, "acme", blocked.sha256, "default", blocked.policy_version))
    assert (await moderation.prompt(FRENCH)).decision == verdict_pb2.DECISION_ALLOW


async def test_an_exemption_never_reaches_below_the_floor(moderation: Running) -> None:
    text = "a nude child"
    blocked = await moderation.prompt(text)
    await moderation.database.write(lambda c: exempt(c, "acme", blocked.sha256, "default", blocked.policy_version))
    assert (await moderation.prompt(text)).decision == verdict_pb2.DECISION_BLOCK


async def test_a_document_past_its_validation_stops_verdicts(tmp_path: Path) -> None:
    """Somebody wrote into the database: no verdict is given under it, in no process."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    async with running(url) as one, running(url) as two:
        rig = Rig(one)
        await rig.next()

        def lower(connection: sa.Connection) -> None:
            document = connection.execute(sa.select(POLICIES.c.document)).scalar_one()
            document["thresholds"]["SEXUAL_MINORS"]["block"] = 0.99
            connection.execute(sa.update(POLICIES).values(document=document, state="LIVE"))
            connection.execute(sa.update(POLICIES_VERSION).values(version=POLICIES_VERSION.c.version + 1))

        await one.database.write(lower)
        for service in (one, two):
            for text in (NUDE, "a nude child"):
                assert (await refused(service.prompt(text))).code is Code.UNAVAILABLE


async def test_a_signal_saves_waiting_for_the_poll(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    async with running(url) as one, running(url) as two:
        rig = Rig(one)
        live = await rig.move(await rig.next(), LIVE)
        await two.moderation.policies.shelf.on_signal("policies-changed", b"")
        assert two.moderation.policies.shelf.book.for_tenant("acme").version == live.version
