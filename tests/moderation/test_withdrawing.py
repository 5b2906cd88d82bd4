"""Erasing a user ends what waits for people about them: nobody can read it any more, so nobody lets it out."""

from __future__ import annotations

import pytest
from imagemesh.events.v1 import appeal_pb2, review_pb2
from imagemesh.moderation.v1 import audit_service_pb2, audit_service_pb2_grpc, verdict_pb2
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import review_pb2 as reviews_pb2

from mesh.errors import Code
from services.moderation import withdrawing
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.review_tables import APPEALS, REVIEWS
from services.moderation.tables import VERDICTS
from tests.moderation.people_rig import ALLOW, BLOCK, BORDERLINE, OPERATOR, REVIEW, People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, internal, refused
from tests.moderation.test_minors_in_pictures import shows


@pytest.fixture
async def people(moderation_on_each: Running) -> People:
    rig = People(moderation_on_each)
    await rig.reviewing()
    return rig


def audit(people: People) -> audit_service_pb2_grpc.AuditServiceAsyncStub:
    return audit_service_pb2_grpc.AuditServiceStub(people.service.channel)


async def erase(people: People, user: str = "ann") -> int:
    request = audit_service_pb2.EraseUserRequest(tenant="acme", user=user)
    return int((await audit(people).EraseUser(request, metadata=OPERATOR)).records)


async def whole(people: People) -> bool:
    answer = await audit(people).VerifyAudit(audit_service_pb2.VerifyAuditRequest(), metadata=OPERATOR)
    return bool(answer.intact)


async def left(people: People) -> str:
    rows = [await people.service.rows(table) for table in (REVIEWS, APPEALS, VERDICTS, AUDIT_RECORDS)]
    return str(rows)


async def test_a_job_that_waits_with_an_erased_text_is_refused(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await erase(people)
    assert await people.queue() == []
    verdict = await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    assert (verdict.decision, verdict.layer, verdict.sha256) == (BLOCK, "review-expired", "")
    (told,) = await people.events(review_pb2.ReviewDecided)
    assert isinstance(told, review_pb2.ReviewDecided)
    assert (told.outcome, told.job_id) == (review_pb2.REVIEW_OUTCOME_EXPIRED, "job_1")
    assert told.verdict_id == verdict.verdict_id


async def test_the_router_is_told_of_the_job(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def signal(subject: str, _payload: bytes = b"") -> None:
        told.append(subject)

    monkeypatch.setattr(people.service.moderation.people._bus, "signal", signal)
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.service.prompt(BORDERLINE, user="ann")
    await erase(people)
    assert told == ["review-decided.job_1"]


async def test_a_reviewer_who_has_it_cannot_let_it_out_afterwards(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    claimed = await people.claim()
    assert claimed.text == BORDERLINE
    await erase(people)
    assert (await refused(people.decide(claimed, ALLOW))).code is Code.FAILED_PRECONDITION
    assert (await people.service.prompt(BORDERLINE, job_id="job_1")).decision == BLOCK


async def test_an_erased_users_picture_stays_where_it_is(people: People) -> None:
    await people.service.prompt("a woman", job_id="job_1", user="ann")
    people.service.assets.put("ast_1", encode(scene(1)))
    shows(people.service, 0.9)
    request = pb.ModerateImageRequest(asset_id="ast_1", job_id="job_1", user="ann")
    first = (await people.service.stub.ModerateImage(request, metadata=internal())).verdict
    assert first.decision == REVIEW
    await erase(people)
    again = (await people.service.stub.ModerateImage(request, metadata=internal())).verdict
    assert (again.decision, again.layer, again.sha256) == (BLOCK, "review-expired", first.sha256)


async def test_an_appeal_of_an_erased_user_is_denied(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.decide(await people.claim(), BLOCK)
    verdict = await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.appeal(verdict.verdict_id)
    await erase(people)
    assert await people.queue() == []
    (appeal,) = await people.service.rows(APPEALS)
    assert (appeal["state"], appeal["statement"], appeal["end_user"]) == ("DENIED", "", "")
    (told,) = await people.events(appeal_pb2.AppealDecided)
    assert isinstance(told, appeal_pb2.AppealDecided)
    assert told.outcome == appeal_pb2.APPEAL_OUTCOME_UPHELD


async def test_nobody_appeals_about_a_text_that_was_erased(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await erase(people)
    verdict = await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    assert (await refused(people.appeal(verdict.verdict_id))).reason == "WRONG_STATE"


async def test_it_is_on_record_and_the_record_stays_whole(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.service.prompt(f"{BORDERLINE}, again", job_id="job_2", user="ann")
    await erase(people)
    records = [row for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "REVIEW_DECIDED"]
    assert {(row["actor"], row["decision"], row["note"]) for row in records} == {
        ("key_p", "BLOCK", "withdrawn: its user was erased")
    }
    assert {row["job_id"] for row in records} == {"job_1", "job_2"}
    assert await whole(people)
    assert "'ann'" not in await left(people)
    assert BORDERLINE not in await left(people)


async def test_others_are_not_concerned(people: People) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1", user="ann")
    await people.service.prompt(BORDERLINE, job_id="job_2", user="bob")
    request = pb.ModeratePromptRequest(
        texts=[pb.PromptText(kind=verdict_pb2.TEXT_KIND_PROMPT, text=BORDERLINE)], job_id="job_3", user="ann"
    )
    await people.service.stub.ModeratePrompt(request, metadata=internal("other"))
    await erase(people)
    assert {review.job_id for review in await people.queue()} == {"job_2", "job_3"}


async def test_outside_a_job_another_user_gets_a_review_of_their_own(people: People) -> None:
    await people.service.prompt(BORDERLINE, user="ann")
    await erase(people)
    assert (await people.service.prompt(BORDERLINE, user="bob")).decision == REVIEW
    claimed = await people.claim()
    assert (claimed.state, claimed.text) == (reviews_pb2.REVIEW_STATE_CLAIMED, BORDERLINE)
    await people.decide(claimed, ALLOW)
    assert (await people.service.prompt(BORDERLINE, user="bob")).decision == ALLOW


async def test_more_than_a_batch_of_them_goes_in_one_call(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withdrawing, "BATCH", 2)
    for number in range(5):
        await people.service.prompt(f"{BORDERLINE} {number}", job_id="job_1", user="ann")
    await erase(people)
    assert await people.queue() == []
    assert await whole(people)
