"""The review queue: what opens a review, who may decide it, and what the decision changes."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from imagemesh.events.v1 import review_pb2 as events_pb2
from imagemesh.moderation.v1 import moderation_service_pb2, review_pb2, verdict_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb

from mesh.errors import Code
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.review_tables import REVIEWS
from services.moderation.tables import VERDICTS
from tests.moderation.people_rig import (
    ALLOW,
    BLOCK,
    BORDERLINE,
    CALLER,
    OPERATOR,
    REVIEW,
    REVIEWER,
    SECOND,
    SEXUAL,
    People,
)
from tests.moderation.pictures import encode, scene
from tests.moderation.policy_rig import LIVE, Rig
from tests.moderation.running import Running, internal, refused


@pytest.fixture
async def people(moderation_on_each: Running) -> People:
    rig = People(moderation_on_each)
    await rig.reviewing()
    return rig


async def test_a_prompt_waits_for_a_person_and_gets_the_decided_verdict(people: People) -> None:
    first = await people.service.prompt(BORDERLINE, job_id="job_1")
    assert first.decision == REVIEW
    (waiting,) = await people.queue()
    assert (waiting.state, waiting.verdict, waiting.text) == (review_pb2.REVIEW_STATE_PENDING, first, "")
    assert (waiting.cause, waiting.job_id, waiting.blurred) == (review_pb2.REVIEW_CAUSE_VERDICT, "job_1", False)
    assert await people.service.prompt(BORDERLINE, job_id="job_1") == first
    claimed = await people.claim()
    assert (claimed.review_id, claimed.text, claimed.reviewer) == (waiting.review_id, BORDERLINE, "key_r")
    decided = await people.decide(claimed, ALLOW)
    assert (decided.state, decided.decision, decided.note) == (review_pb2.REVIEW_STATE_DECIDED, ALLOW, "seen")
    second = await people.service.prompt(BORDERLINE, job_id="job_1")
    assert (second.decision, second.layer, second.sha256) == (ALLOW, "review", first.sha256)
    assert second.verdict_id != first.verdict_id
    assert (await people.service.prompt(BORDERLINE, job_id="job_1")) == second
    request = moderation_service_pb2.GetVerdictRequest(verdict_id=first.verdict_id)
    assert (await people.service.stub.GetVerdict(request, metadata=internal())).verdict == first
    assert (await people.service.prompt(BORDERLINE, job_id="job_2")).decision == REVIEW
    assert [row["text"] for row in await people.service.rows(REVIEWS) if row["state"] == "DECIDED"] == [""]


async def test_a_blocked_review_names_the_reviewers_category(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.decide(await people.claim(), BLOCK)
    verdict = await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    assert (verdict.decision, verdict.layer) == (BLOCK, "review")
    assert (verdict.scores[0].category, verdict.scores[0].decision) == (SEXUAL, BLOCK)
    answer = await people.service.people.ListStrikes(pb.ListStrikesRequest(user="ann"), metadata=OPERATOR)
    assert [strike.verdict_id for strike in answer.strikes] == [verdict.verdict_id]


async def test_a_decision_outside_a_job_holds_under_that_version_of_the_policy(people: People) -> None:
    await people.service.prompt(BORDERLINE)
    await people.service.prompt(BORDERLINE)
    assert len(await people.queue()) == 1
    await people.decide(await people.claim(), ALLOW)
    assert (await people.service.prompt(BORDERLINE)).decision == ALLOW
    assert (await people.service.prompt(BORDERLINE, metadata=internal("other"))).decision == REVIEW
    await people.reviewing()
    assert (await people.service.prompt(BORDERLINE)).decision == REVIEW


async def test_a_job_is_decided_once_whatever_becomes_of_the_policy(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1")
    await people.decide(await people.claim(), ALLOW)
    await people.reviewing()
    assert (await people.service.prompt(BORDERLINE, job_id="job_1")).decision == ALLOW


@pytest.mark.parametrize(
    ("block", "outcome"), [(None, events_pb2.REVIEW_OUTCOME_ALLOWED), (0.3, events_pb2.REVIEW_OUTCOME_EXPIRED)]
)
async def test_what_a_change_of_policy_decides_waits_for_nobody(
    people: People, block: float | None, outcome: int
) -> None:
    """The job asks again, and goes on or ends by what the policy says now."""
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.service.prompt(BORDERLINE, user="ann")
    claimed = next(review for review in [await people.claim(), await people.claim()] if review.job_id)
    rig = Rig(people.service)
    policy = await rig.get()
    for limits in policy.thresholds:
        if limits.category == SEXUAL:
            for tier in ("flag", "review"):
                limits.ClearField(tier)
            if block is not None:
                limits.block = block
    await rig.move(await rig.set(policy, (await rig.newest()).etag), LIVE)
    second = await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    assert (second.decision == BLOCK) is (block is not None)
    assert [review.job_id for review in await people.queue()] == [""]
    assert (await refused(people.decide(claimed, ALLOW))).code is Code.FAILED_PRECONDITION
    told = [event.outcome for event in await people.events(events_pb2.ReviewDecided)]  # type: ignore[attr-defined]
    assert told == [outcome]
    (row,) = [row for row in await people.service.rows(REVIEWS) if row["job_id"]]
    note = f"overtaken by default {second.policy_version}"
    assert (row["outcome_id"], row["text"], row["note"]) == (second.verdict_id, "", note)
    assert await people.service.prompt(BORDERLINE, job_id="job_1", user="ann") == second


async def test_a_replay_leaves_out_what_people_decided(people: People) -> None:
    for number, decision in enumerate((ALLOW, BLOCK)):
        await people.service.prompt(f"{BORDERLINE} {number}", job_id="job_1")
        await people.decide(await people.claim(), decision)
    rig = Rig(people.service)
    assert await rig.replay(await rig.get()) == (2, {})


async def test_the_world_and_the_record_hear_of_a_decision(people: People) -> None:
    first = await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    (asked,) = await people.events(events_pb2.ReviewRequested)
    decided = await people.decide(await people.claim(), ALLOW)
    (told,) = await people.events(events_pb2.ReviewDecided)
    second = await people.service.prompt(BORDERLINE, job_id="job_1")
    assert isinstance(asked, events_pb2.ReviewRequested)
    assert isinstance(told, events_pb2.ReviewDecided)
    assert (asked.review_id, asked.verdict_id) == (decided.review_id, first.verdict_id)
    assert (told.review_id, told.verdict_id, told.job_id) == (decided.review_id, second.verdict_id, "job_1")
    assert told.outcome == events_pb2.REVIEW_OUTCOME_ALLOWED
    record = next(row for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "REVIEW_DECIDED")
    assert (record["actor"], record["decision"], record["verdict_id"]) == ("key_r", "ALLOW", second.verdict_id)
    assert (record["end_user"], record["note"], record["job_id"]) == ("ann", "seen", "job_1")


async def test_no_two_reviewers_get_one_item(people: People) -> None:
    for number in range(6):
        await people.service.prompt(f"{BORDERLINE} {number}", job_id="job_1")
    claims = await asyncio.gather(*(people.claim(who=(REVIEWER, SECOND)[n % 2]) for n in range(6)))
    assert len({review.review_id for review in claims}) == 6
    error = await refused(people.claim())
    assert (error.code, error.reason) == (Code.NOT_FOUND, "REVIEW_NOT_FOUND")


async def test_one_item_claimed_by_many_at_once_goes_to_one(people: People) -> None:
    await people.service.prompt(BORDERLINE)
    (waiting,) = await people.queue()
    tries = await asyncio.gather(
        *(people.claim(waiting.review_id, who) for who in (REVIEWER, SECOND)), return_exceptions=True
    )
    assert sum(isinstance(one, review_pb2.Review) for one in tries) == 1


async def test_only_who_has_it_may_release_or_decide_it(people: People) -> None:
    await people.service.prompt(BORDERLINE)
    (waiting,) = await people.queue()
    assert (await refused(people.decide(waiting, ALLOW))).reason == "WRONG_STATE"
    mine = await people.claim()
    assert (await refused(people.claim(mine.review_id, SECOND))).reason == "WRONG_STATE"
    assert (await refused(people.decide(mine, ALLOW, SECOND))).reason == "WRONG_STATE"
    release = pb.ReleaseReviewRequest(review_id=mine.review_id)
    call = people.service.people.ReleaseReview(release, metadata=SECOND)
    assert (await refused(call)).reason == "WRONG_STATE"
    again = await people.claim(mine.review_id)
    error = await refused(people.decide(mine, ALLOW))
    assert (error.code, error.reason) == (Code.ABORTED, "STALE_EPOCH")
    released = (await people.service.people.ReleaseReview(release, metadata=REVIEWER)).review
    assert (released.state, released.reviewer) == (review_pb2.REVIEW_STATE_PENDING, "")
    assert (await refused(people.decide(again, ALLOW))).reason == "WRONG_STATE"
    theirs = await people.claim(who=SECOND)
    await people.decide(theirs, ALLOW, SECOND)
    assert (await refused(people.claim(mine.review_id))).reason == "WRONG_STATE"


async def test_a_decision_may_be_repeated_and_not_changed(people: People) -> None:
    """Its answer may have been lost."""
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    mine = await people.claim()
    decided = await people.decide(mine, BLOCK)
    assert await people.decide(mine, BLOCK) == decided
    assert (await refused(people.decide(mine, ALLOW))).reason == "WRONG_STATE"
    assert (await refused(people.decide(mine, BLOCK, SECOND))).reason == "WRONG_STATE"
    records = [row for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "REVIEW_DECIDED"]
    assert (len(records), len(await people.events(events_pb2.ReviewDecided))) == (1, 1)


async def set_back(people: People, column: str) -> None:
    change = sa.update(REVIEWS).values({column: 1})
    await people.service.database.write(lambda c: c.execute(change) and None)


async def test_a_claim_ends(people: People) -> None:
    await people.service.prompt(BORDERLINE)
    mine = await people.claim()
    await set_back(people, "claim_us")
    assert (await refused(people.decide(mine, ALLOW))).reason == "WRONG_STATE"
    assert (await people.queue(state=review_pb2.REVIEW_STATE_PENDING))[0].review_id == mine.review_id
    assert (await people.claim(who=SECOND)).reviewer == "key_all"


async def test_what_nobody_decides_in_time_is_blocked(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1")
    deciding = people.service.moderation.people.deciding
    assert await deciding.expire() == 0
    await set_back(people, "due_us")
    assert await deciding.expire() == 1
    assert await deciding.expire() == 0
    verdict = await people.service.prompt(BORDERLINE, job_id="job_1")
    assert (verdict.decision, verdict.layer) == (BLOCK, "review-expired")
    (expired,) = await people.queue(state=review_pb2.REVIEW_STATE_EXPIRED)
    assert (expired.decision, expired.reviewer, expired.verdict.decision) == (BLOCK, "", REVIEW)
    (told,) = await people.events(events_pb2.ReviewDecided)
    assert isinstance(told, events_pb2.ReviewDecided)
    assert told.outcome == events_pb2.REVIEW_OUTCOME_EXPIRED


async def test_a_reviewer_at_work_may_finish_after_the_time(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1")
    mine = await people.claim()
    await set_back(people, "due_us")
    assert await people.service.moderation.people.deciding.expire() == 0
    await people.decide(mine, ALLOW)


async def test_the_most_severe_come_first_then_the_oldest(people: People) -> None:
    texts = (BORDERLINE, "a suicidal man with a razor blade", f"{BORDERLINE} again")
    for text in texts:
        await people.service.prompt(text, job_id="job_1")
    found = await people.queue()
    keys = [(-review.severity, review.create_time.ToMicroseconds()) for review in found]
    assert keys == sorted(keys)
    assert (await people.claim()).review_id == found[0].review_id
    severe = await people.queue(severity=review_pb2.SEVERITY_CRITICAL)
    assert [review.severity for review in severe] == [review_pb2.SEVERITY_CRITICAL]
    sexual = await people.queue(categories=[SEXUAL])
    assert {review.review_id for review in sexual} <= {review.review_id for review in found}
    assert await people.queue(categories=[verdict_pb2.CATEGORY_SEXUAL_MINORS]) == []


async def test_what_nobody_could_judge_does_not_come_before_what_was_seen(people: People) -> None:
    await people.service.prompt("un chat qui dort sur le lit de ma grand-mère", job_id="job_1")
    await people.service.prompt("a suicidal man with a razor blade", job_id="job_2")
    assert [(review.job_id, review.severity) for review in await people.queue()] == [
        ("job_2", review_pb2.SEVERITY_CRITICAL),
        ("job_1", review_pb2.SEVERITY_MEDIUM),
    ]


async def test_pages_hold_together(people: People) -> None:
    for number in range(5):
        await people.service.prompt(f"{BORDERLINE} {number}")
    found: list[str] = []
    request = pb.ListReviewsRequest(page_size=2)
    while True:
        answer = await people.service.people.ListReviews(request, metadata=OPERATOR)
        found += [review.review_id for review in answer.reviews]
        request.page_token = answer.next_page_token
        if not request.page_token:
            break
    assert found == [review.review_id for review in await people.queue()]
    request = pb.ListReviewsRequest(page_token="x" * 20)
    error = await refused(people.service.people.ListReviews(request, metadata=OPERATOR))
    assert error.reason == "PAGE_TOKEN_INVALID"


async def test_a_picture_under_review_is_blurred_and_bound_to_its_bytes(people: People) -> None:
    asset_id = people.service.assets.put("ast_1", encode(scene(1)))
    rig = Rig(people.service)
    policy = await rig.get()
    for limits in policy.thresholds:
        if limits.category == verdict_pb2.CATEGORY_GORE:
            limits.unevaluated = REVIEW
    await rig.move(await rig.set(policy, (await rig.newest()).etag), LIVE)
    first = await people.service.image(asset_id=asset_id, job_id="job_1")
    assert first.decision == REVIEW
    claimed = await people.claim()
    assert (claimed.asset_id, claimed.blurred) == (asset_id, True)
    await people.decide(claimed, ALLOW)
    second = await people.service.image(asset_id=asset_id, job_id="job_1")
    assert (second.decision, second.sha256) == (ALLOW, first.sha256)
    people.service.assets.put("ast_1", encode(scene(2)))
    assert (await people.service.image(asset_id=asset_id, job_id="job_1")).decision == REVIEW


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.DecideReviewRequest(review_id="rev_1", decision=BLOCK, etag="x"), "reason"),
        (pb.DecideReviewRequest(review_id="rev_1", decision=REVIEW, etag="x"), "decision"),
        (pb.DecideReviewRequest(review_id="rev_1", decision=ALLOW), "etag"),
        (pb.DecideReviewRequest(decision=ALLOW, etag="x"), "review_id"),
        (pb.DecideReviewRequest(review_id="rev_1", decision=ALLOW, etag="x", note="n" * 4001), "note"),
    ],
)
async def test_wrong_decisions_are_refused(moderation: Running, request_: pb.DecideReviewRequest, field: str) -> None:
    error = await refused(moderation.people.DecideReview(request_, metadata=REVIEWER))
    assert (error.code, [violation.field for violation in error.violations]) == (Code.INVALID_ARGUMENT, [field])


async def test_callers_do_not_review(moderation: Running) -> None:
    error = await refused(moderation.people.ClaimReview(pb.ClaimReviewRequest(), metadata=CALLER))
    assert error.reason == "ROLE_NOT_ALLOWED"
    assert (await refused(moderation.people.ClaimReview(pb.ClaimReviewRequest(), metadata=OPERATOR))).reason
    assert await moderation.rows(VERDICTS) == []
