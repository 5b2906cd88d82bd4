"""Appeals: one for each verdict; what a granted one changes, and what it never reaches."""

from __future__ import annotations

import asyncio

import pytest
from imagemesh.events.v1 import appeal_pb2 as events_pb2
from imagemesh.moderation.v1 import review_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb

from mesh.errors import Code, Unavailable
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.perceptual import BlockedHash
from services.moderation.report_tables import STRIKES
from services.moderation.verdicts import Category
from tests.moderation.people_rig import ALLOW, BLOCK, CALLER, OPERATOR, SECOND, People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, key, refused

PORN = "explicit hardcore pornography"
MINORS = "a nude child, explicit"


@pytest.fixture
def people(moderation_on_each: Running) -> People:
    return People(moderation_on_each)


async def blocked_picture(people: People, asset_id: str = "ast_1") -> str:
    """The id of a verdict that blocks the picture."""
    data = encode(scene(1))
    people.service.assets.put(asset_id, data)
    seen = await people.service.moderation._pictures.inspect(data)
    known = BlockedHash("bhs_1", Category.GORE, seen.fingerprint.hashes[0])
    await people.service.moderation.store.block([known], "test")
    verdict = await people.service.image(asset_id=asset_id, job_id="job_1")
    assert verdict.decision == BLOCK
    return verdict.verdict_id


async def test_a_won_prompt_appeal_lets_the_prompt_through(people: People) -> None:
    verdict = await people.service.prompt(PORN, user="ann")
    appeal = await people.appeal(verdict.verdict_id)
    assert (appeal.state, appeal.tenant) == (review_pb2.APPEAL_STATE_OPEN, "acme")
    granted = await people.settle(appeal, granted=True)
    assert (granted.state, granted.answer, granted.reviewer) == (
        review_pb2.APPEAL_STATE_GRANTED,
        "looked again",
        "key_r",
    )
    assert (await people.service.prompt(PORN)).decision == ALLOW
    assert (await people.service.prompt(PORN, metadata=key("other"))).decision == BLOCK
    assert [strike["cleared"] for strike in await people.service.rows(STRIKES)] == [True, False][:1]
    (event,) = await people.events(events_pb2.AppealDecided)
    assert isinstance(event, events_pb2.AppealDecided)
    assert (event.appeal_id, event.outcome) == (appeal.appeal_id, events_pb2.APPEAL_OUTCOME_OVERTURNED)
    records = [row for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "APPEAL"]
    assert [(row["decision"], row["note"]) for row in records] == [
        ("", "it is a museum piece"),
        ("ALLOW", "looked again"),
    ]


async def test_no_appeal_reaches_below_the_floor(people: People) -> None:
    verdict = await people.service.prompt(MINORS)
    await people.settle(await people.appeal(verdict.verdict_id), granted=True)
    assert (await people.service.prompt(MINORS)).decision == BLOCK


async def test_a_lost_appeal_changes_nothing(people: People) -> None:
    verdict = await people.service.prompt(PORN)
    denied = await people.settle(await people.appeal(verdict.verdict_id), granted=False)
    assert denied.state == review_pb2.APPEAL_STATE_DENIED
    assert (await people.service.prompt(PORN)).decision == BLOCK
    (event,) = await people.events(events_pb2.AppealDecided)
    assert isinstance(event, events_pb2.AppealDecided)
    assert event.outcome == events_pb2.APPEAL_OUTCOME_UPHELD


async def test_a_won_picture_appeal_publishes_that_asset(people: People) -> None:
    verdict_id = await blocked_picture(people)
    await people.settle(await people.appeal(verdict_id), granted=True)
    ((what, sha256, asset_id, overturned),) = people.service.assets.done
    assert (what, asset_id) == ("restore", "ast_1")
    verdict = await people.service.moderation.store.verdict(overturned, "acme")
    assert verdict is not None
    assert (verdict.judgement.decision.name, verdict.subject.sha256) == ("ALLOW", sha256)


async def test_a_won_picture_appeal_is_carried_out_once_storage_answers(people: People) -> None:
    verdict_id = await blocked_picture(people)
    appeal = await people.appeal(verdict_id)
    people.service.assets.failure = Unavailable("storage is away")
    error = await refused(people.settle(appeal, granted=True))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "PEER_UNAVAILABLE")
    assert (await refused(people.settle(appeal, granted=True))).code is Code.UNAVAILABLE
    assert (await refused(people.settle(appeal, granted=False))).reason == "WRONG_STATE"
    people.service.assets.failure = None
    assert (await people.settle(appeal, granted=True)).state == review_pb2.APPEAL_STATE_GRANTED
    async with asyncio.timeout(20):
        while not people.service.assets.done:
            await asyncio.sleep(0.05)
    assert people.service.assets.done[0][0] == "restore"


async def test_what_is_taken_down_is_not_let_out_by_an_appeal(people: People) -> None:
    verdict_id = await blocked_picture(people)
    appeal = await people.appeal(verdict_id)
    await people.take_down("ast_1")
    error = await refused(people.settle(appeal, granted=True))
    assert error.reason == "WRONG_STATE"
    assert (await people.settle(appeal, granted=False)).state == review_pb2.APPEAL_STATE_DENIED


async def test_who_may_appeal_what(people: People) -> None:
    blocked, fine = await people.service.prompt(PORN), await people.service.prompt("a red fox")
    assert (await refused(people.appeal(blocked.verdict_id, key("other")))).reason == "VERDICT_NOT_FOUND"
    assert (await refused(people.appeal("vrd_unknown"))).reason == "VERDICT_NOT_FOUND"
    assert (await refused(people.appeal(fine.verdict_id))).reason == "WRONG_STATE"
    await people.appeal(blocked.verdict_id)
    error = await refused(people.appeal(blocked.verdict_id))
    assert (error.code, error.reason) == (Code.ALREADY_EXISTS, "ALREADY_APPEALED")
    unknown = review_pb2.Appeal(appeal_id="apl_unknown")
    assert (await refused(people.settle(unknown, granted=True))).reason == "APPEAL_NOT_FOUND"


async def test_an_appeal_stands_in_the_queue_and_may_be_decided_there(people: People) -> None:
    verdict = await people.service.prompt(PORN)
    appeal = await people.appeal(verdict.verdict_id)
    (waiting,) = await people.queue()
    assert (waiting.cause, waiting.verdict) == (review_pb2.REVIEW_CAUSE_APPEAL, verdict)
    claimed = await people.claim()
    assert claimed.text == "it is a museum piece"
    assert (await refused(people.settle(appeal, granted=False, who=SECOND))).reason == "WRONG_STATE"
    await people.decide(claimed, ALLOW)
    assert (await people.service.prompt(PORN)).decision == ALLOW
    assert await people.queue() == []
    assert (await refused(people.settle(appeal, granted=False))).reason == "WRONG_STATE"


async def test_callers_see_their_tenants_appeals_oldest_first(people: People) -> None:
    for number in range(3):
        await people.appeal((await people.service.prompt(f"{PORN} {number}")).verdict_id)

    async def seen(who: tuple[tuple[str, str], ...], **wanted: object) -> list[str]:
        answer = await people.service.people.ListAppeals(pb.ListAppealsRequest(**wanted), metadata=who)
        return [appeal.appeal_id for appeal in answer.appeals]

    mine = await seen(CALLER)
    assert len(mine) == 3
    assert await seen(OPERATOR) == mine
    assert await seen(key("other")) == []
    assert await seen(CALLER, page_size=1) == mine[:1]
    assert await seen(CALLER, state=review_pb2.APPEAL_STATE_GRANTED) == []
