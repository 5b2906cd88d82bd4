"""What is kept of persons outside the audit goes with retention, and is not told from memory after an erasure."""

from __future__ import annotations

import pytest
from imagemesh.moderation.v1 import audit_service_pb2 as audit_pb
from imagemesh.moderation.v1 import audit_service_pb2_grpc
from imagemesh.moderation.v1 import moderation_service_pb2 as pb

from services.moderation.report_tables import REPORT_VOICES, REPORTS
from services.moderation.retiring import retire
from services.moderation.review_tables import APPEALS, REVIEWS
from services.moderation.tables import VERDICTS
from tests.moderation.people_rig import BLOCK, OPERATOR, People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, internal

PORN = "explicit hardcore pornography"
LATER = 2**62


@pytest.fixture
def people(moderation_on_each: Running) -> People:
    moderation_on_each.assets.put("ast_1", encode(scene(1)))
    return People(moderation_on_each)


async def test_words_and_names_of_people_go_with_retention(people: People) -> None:
    verdict = await people.service.prompt(PORN, user="ann")
    await people.settle(await people.appeal(verdict.verdict_id), granted=False)
    await people.report("ast_1")
    await people.decide(await people.claim(), BLOCK)
    await retire(people.service.database, ("acme",), 0)
    assert [row["statement"] for row in await people.service.rows(APPEALS)] == ["it is a museum piece"]
    await retire(people.service.database, ("acme",), LATER, others=True)
    assert [row["end_user"] for row in await people.service.rows(VERDICTS)] == ["ann"]
    await retire(people.service.database, ("acme",), LATER)
    left = [
        dict(row)
        for table in (APPEALS, REVIEWS, REPORTS, REPORT_VOICES, VERDICTS)
        for row in await people.service.rows(table)
    ]
    names = ("end_user", "text", "note", "statement", "answer", "reporter")
    assert {row[name] for row in left for name in names if name in row} == {""}
    assert await retire(people.service.database, ("acme",), LATER) == 0


async def test_what_is_open_is_kept_for_whoever_decides(people: People) -> None:
    await people.appeal((await people.service.prompt(PORN, user="ann")).verdict_id)
    await people.report("ast_1")
    await retire(people.service.database, ("acme",), LATER)
    assert [row["statement"] for row in await people.service.rows(APPEALS)] == ["it is a museum piece"]
    assert [row["statement"] for row in await people.service.rows(REPORTS)] == ["look at this"]


async def test_an_appeal_that_waited_long_still_has_its_effect(people: People) -> None:
    appeal = await people.appeal((await people.service.prompt(PORN, user="ann")).verdict_id)
    await retire(people.service.database, ("acme",), LATER)
    await people.settle(appeal, granted=True)
    assert (await people.service.prompt(PORN)).decision != BLOCK
    await retire(people.service.database, ("acme",), LATER)
    assert {row["end_user"] for row in await people.service.rows(VERDICTS)} == {""}


async def test_an_erased_prompts_hash_is_not_told_from_memory(people: People) -> None:
    verdict = await people.service.prompt(PORN, user="ann")
    audit = audit_service_pb2_grpc.AuditServiceStub(people.service.channel)
    await audit.EraseUser(audit_pb.EraseUserRequest(tenant="acme", user="ann"), metadata=OPERATOR)
    request = pb.GetVerdictRequest(verdict_id=verdict.verdict_id)
    assert (await people.service.stub.GetVerdict(request, metadata=internal())).verdict.sha256 == ""
