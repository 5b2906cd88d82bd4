"""Words with characters that PostgreSQL keeps nowhere: no call fails with INTERNAL because of them."""

from __future__ import annotations

import pytest
from imagemesh.moderation.v1 import audit_service_pb2, audit_service_pb2_grpc
from imagemesh.moderation.v1 import moderation_service_pb2 as judged
from imagemesh.moderation.v1 import review_service_pb2 as pb

from mesh.errors import Code
from tests.moderation.people_rig import BLOCK, BORDERLINE, CALLER, OPERATOR, REVIEWER, SEXUAL, People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, internal, refused

NUL = "a\0b"


@pytest.fixture
async def people(moderation_on_each: Running) -> People:
    moderation_on_each.assets.put("ast_1", encode(scene(1)))
    rig = People(moderation_on_each)
    await rig.reviewing()
    return rig


async def test_statements_of_callers_are_kept_without_them(people: People) -> None:
    stub = people.service.people
    verdict = await people.service.prompt("a nude child, explicit")
    await people.service.prompt(f"{BORDERLINE} {NUL}", job_id="job_1")
    await stub.AppealVerdict(pb.AppealVerdictRequest(verdict_id=verdict.verdict_id, statement=NUL), metadata=CALLER)
    await stub.ReportAsset(pb.ReportAssetRequest(asset_id="ast_1", reason=SEXUAL, statement=NUL), metadata=CALLER)
    assert len(await people.queue()) == 3


REFUSED = {
    "judged": lambda s: s.stub.ModeratePrompt(
        judged.ModeratePromptRequest(texts=[judged.PromptText(kind=1, text="a fox")], user=NUL), metadata=internal()
    ),
    "reporter": lambda s: s.people.ReportAsset(
        pb.ReportAssetRequest(asset_id="ast_1", reason=SEXUAL, reporter=NUL), metadata=CALLER
    ),
    "strikes": lambda s: s.people.ListStrikes(pb.ListStrikesRequest(user=NUL), metadata=OPERATOR),
    "cleared": lambda s: s.people.ClearStrikes(
        pb.ClearStrikesRequest(tenant="acme", user=NUL, note="x"), metadata=OPERATOR
    ),
    "erased": lambda s: audit_service_pb2_grpc.AuditServiceStub(s.channel).EraseUser(
        audit_service_pb2.EraseUserRequest(tenant="acme", user=NUL), metadata=OPERATOR
    ),
    "decided": lambda s: s.people.DecideReview(
        pb.DecideReviewRequest(review_id="rev_1", decision=BLOCK, reason=SEXUAL, etag="e", note=NUL), metadata=REVIEWER
    ),
    "taken down": lambda s: s.people.TakeDownAsset(
        pb.TakeDownAssetRequest(asset_id="ast_1", reason=SEXUAL, note=NUL), metadata=OPERATOR
    ),
    "restored": lambda s: s.people.RestoreAsset(
        pb.RestoreAssetRequest(takedown_id="tkd_1", note=NUL), metadata=OPERATOR
    ),
    "held": lambda s: s.people.SetLegalHold(
        pb.SetLegalHoldRequest(asset_id="ast_1", hold=True, note=NUL), metadata=OPERATOR
    ),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
async def test_names_and_notes_are_refused(people: People, call: object) -> None:
    error = await refused(call(people.service))  # type: ignore[operator]
    assert error.code is Code.INVALID_ARGUMENT
