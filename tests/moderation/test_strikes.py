"""Strikes: who gets one, what they come to, and how they end."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from imagemesh.moderation.v1 import audit_service_pb2, audit_service_pb2_grpc, policy_pb2, review_pb2, verdict_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb

from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.report_tables import REPORTS, STRIKES
from services.moderation.review_tables import APPEALS, REVIEWS
from tests.moderation.people_rig import ALLOW, BLOCK, CALLER, OPERATOR, REVIEW, SEXUAL, People
from tests.moderation.pictures import encode, scene
from tests.moderation.policy_rig import LIVE, Rig
from tests.moderation.running import Running, internal, key, refused

PORN = "explicit hardcore pornography"
FOX = "a red fox in the snow"


@pytest.fixture
def people(moderation_on_each: Running) -> People:
    return People(moderation_on_each)


async def rule(people: People, consequence: str, count: int = 2, categories: tuple[int, ...] = ()) -> None:
    rig = Rig(people.service)
    policy = await rig.get()
    value = policy_pb2.StrikeConsequence.Value(f"STRIKE_CONSEQUENCE_{consequence}")
    policy.strikes.CopyFrom(policy_pb2.StrikeRule(count=count, consequence=value, categories=categories))
    await rig.move(await rig.set(policy, (await rig.newest()).etag), LIVE)


async def listed(people: People, user: str = "", who: object = CALLER) -> list[review_pb2.Strike]:
    answer = await people.service.people.ListStrikes(pb.ListStrikesRequest(user=user), metadata=who)
    return list(answer.strikes)


async def test_a_blocked_prompt_strikes_its_user_once_for_each_verdict(people: People) -> None:
    verdict = await people.service.prompt(PORN, user="ann", job_id="job_1")
    assert (await people.service.prompt(PORN, user="ann", job_id="job_1")) == verdict
    await people.service.prompt(PORN)
    await people.service.prompt(FOX, user="ann")
    (strike,) = await listed(people)
    assert (strike.user, strike.verdict_id, strike.category) == ("ann", verdict.verdict_id, SEXUAL)
    days = (strike.expire_time.seconds - strike.create_time.seconds) / 86_400
    assert days == 90
    assert await listed(people, who=key("other")) == []
    assert await listed(people, user="bob") == []


@pytest.mark.parametrize(("consequence", "decision"), [("NONE", ALLOW), ("REVIEW", REVIEW), ("BLOCK", BLOCK)])
async def test_as_many_as_the_policy_says_have_its_consequence(
    people: People, consequence: str, decision: verdict_pb2.Decision.ValueType
) -> None:
    await rule(people, consequence)
    await people.service.prompt(PORN, user="ann")
    assert (await people.service.prompt(FOX, user="ann")).decision == ALLOW
    await people.service.prompt(PORN, user="ann")
    verdict = await people.service.prompt(FOX, user="ann", job_id="job_1")
    assert (verdict.decision, verdict.layer) == (decision, "" if decision == ALLOW else "strikes")
    assert len(await listed(people)) == 2  # what strikes blocked earns none
    assert (await people.service.prompt(FOX, user="bob")).decision == ALLOW
    assert (await people.service.prompt(FOX, user="ann", metadata=internal("other"))).decision == ALLOW
    if decision == REVIEW:
        await people.decide(await people.claim(), ALLOW)
        assert (await people.service.prompt(FOX, user="ann", job_id="job_1")).decision == ALLOW


async def test_only_the_policys_categories_count(people: People) -> None:
    await rule(people, "BLOCK", count=1, categories=(verdict_pb2.CATEGORY_GORE,))
    await people.service.prompt(PORN, user="ann")
    assert await listed(people) == []
    assert (await people.service.prompt(FOX, user="ann")).decision == ALLOW


async def test_a_strike_stops_counting(people: People) -> None:
    await rule(people, "BLOCK", count=1)
    await people.service.prompt(PORN, user="ann")
    assert (await people.service.prompt(FOX, user="ann")).decision == BLOCK
    await people.service.database.write(lambda c: c.execute(sa.update(STRIKES).values(expire_us=1)) and None)
    assert (await people.service.prompt(FOX, user="ann")).decision == ALLOW


async def test_strikes_are_cleared(people: People) -> None:
    await rule(people, "BLOCK", count=1)
    await people.service.prompt(PORN, user="ann")
    request = pb.ClearStrikesRequest(tenant="acme", user="ann", note="talked to them")
    assert (await people.service.people.ClearStrikes(request, metadata=OPERATOR)).cleared == 1
    assert (await people.service.prompt(FOX, user="ann")).decision == ALLOW
    assert [strike.cleared for strike in await listed(people)] == [True]
    again = people.service.people.ClearStrikes(request, metadata=OPERATOR)
    assert (await refused(again)).reason == "USER_NOT_FOUND"
    record = next(row for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "STRIKES_CLEARED")
    assert (record["end_user"], record["actor"], record["note"]) == ("ann", "key_p", "talked to them")


async def test_a_model_that_draws_badly_strikes_nobody(people: People) -> None:
    people.service.assets.put("ast_1", encode(scene(1)))
    await people.take_down("ast_1")
    assert (await people.service.image(asset_id="ast_1", job_id="job_1")).decision == BLOCK
    assert await listed(people) == []


async def test_erasing_a_user_takes_them_out_of_everything_people_do(people: People) -> None:
    people.service.assets.put("ast_1", encode(scene(1)))
    await people.report("ast_1", reporter="ann")
    verdict = await people.service.prompt(PORN, user="ann")
    await people.appeal(verdict.verdict_id)
    request = audit_service_pb2.EraseUserRequest(tenant="acme", user="ann")
    await audit_service_pb2_grpc.AuditServiceStub(people.service.channel).EraseUser(request, metadata=OPERATOR)
    for table in (REPORTS, STRIKES, APPEALS, REVIEWS):
        rows = str(await people.service.rows(table))
        assert "ann" not in rows
        assert "museum" not in rows
        assert "look at this" not in rows
