"""Reports, takedowns and holds: what is blocked and what storage is told, in which order."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import review_pb2 as events_pb2
from imagemesh.moderation.v1 import review_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb

from mesh.errors import Code, Unavailable
from services.moderation import report_store
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.report_tables import STORAGE_ORDERS
from services.moderation.tables import BLOCKED_HASHES
from tests.moderation.people_rig import ALLOW, BLOCK, OPERATOR, REVIEWER, People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, refused

PICTURE = scene(1)
DATA = encode(PICTURE)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def people(moderation_on_each: Running) -> People:
    moderation_on_each.assets.put("ast_1", DATA)
    return People(moderation_on_each)


async def test_a_takedown_blocks_the_picture_and_what_looks_like_it(people: People) -> None:
    assert (await people.service.image(DATA)).decision == ALLOW
    takedown = await people.take_down("ast_1", legal_hold=True)
    assert (takedown.sha256, takedown.asset_id, takedown.tenant) == (SHA256, "ast_1", "acme")
    assert (takedown.legal_hold, takedown.restored, takedown.actor) == (True, False, "key_p")
    assert people.asked_of_storage == ["take down", "hold"]
    changed = {
        "the same": DATA,
        "recompressed": encode(PICTURE, ".jpeg"),
        "scaled": encode(PICTURE.resize(1.5)),
        "mirrored": encode(PICTURE.fliphor()),
        "turned": encode(PICTURE.rot90()),
    }
    for name, data in changed.items():
        verdict = await people.service.image(data)
        assert (verdict.decision, verdict.layer) == (BLOCK, "perceptual-hash"), name
    assert (await people.service.image(encode(scene(2)))).decision == ALLOW
    assert len(await people.service.rows(BLOCKED_HASHES)) == 2


async def test_a_takedown_again_is_the_same_takedown(people: People) -> None:
    first = await people.take_down("ast_1")
    again = await people.take_down("ast_1", legal_hold=True)
    assert (again.takedown_id, again.legal_hold) == (first.takedown_id, True)
    assert people.asked_of_storage == ["take down", "hold"]


async def test_a_restore_undoes_it(people: People) -> None:
    takedown = await people.take_down("ast_1")
    restored = await people.restore(takedown.takedown_id)
    assert (restored.restored, restored.takedown_id) == (True, takedown.takedown_id)
    assert people.asked_of_storage == ["take down", "restore"]
    assert (await people.service.image(DATA)).decision == ALLOW
    assert await people.service.rows(BLOCKED_HASHES) == []
    assert await people.restore(takedown.takedown_id) == restored
    assert (await refused(people.restore("tkd_unknown"))).reason == "TAKEDOWN_NOT_FOUND"
    assert (await people.take_down("ast_1")).takedown_id != takedown.takedown_id
    assert (await refused(people.restore(takedown.takedown_id))).reason == "WRONG_STATE"
    records = [row for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "TAKEDOWN"]
    assert [row["decision"] for row in records] == ["BLOCK", "ALLOW", "BLOCK"]


async def test_storage_that_was_away_is_told_in_order_when_it_is_back(people: People) -> None:
    takedown = await people.take_down("ast_1")
    people.service.assets.failure = Unavailable("storage is away")
    error = await refused(people.restore(takedown.takedown_id))
    assert (error.code, error.metadata) == (Code.UNAVAILABLE, {"peer": "storage"})
    assert (await refused(people.take_down("ast_1"))).code == Code.UNAVAILABLE  # whose bytes it is, only storage knows
    people.service.assets.failure = None
    async with asyncio.timeout(20):
        while await people.service.rows(STORAGE_ORDERS):
            await asyncio.sleep(0.05)
    assert people.asked_of_storage == ["take down", "restore"]


async def test_an_unknown_picture_is_not_found(people: People) -> None:
    assert (await refused(people.take_down("ast_unknown"))).reason == "ASSET_NOT_FOUND"
    assert (await refused(people.report("ast_unknown"))).reason == "ASSET_NOT_FOUND"


async def hold(people: People, *, held: bool, until: Timestamp | None = None) -> None:
    request = pb.SetLegalHoldRequest(asset_id="ast_1", hold=held, note="case 7", until_time=until)
    answer = await people.service.people.SetLegalHold(request, metadata=OPERATOR)
    assert (answer.asset_id, answer.hold) == ("ast_1", held)


async def test_a_hold_is_set_and_ended(people: People) -> None:
    await hold(people, held=True)
    await hold(people, held=False)
    assert people.asked_of_storage == ["hold", "lift"]
    records = [row["note"] for row in await people.service.rows(AUDIT_RECORDS) if row["action"] == "LEGAL_HOLD"]
    assert records == ["set: case 7", "ended: case 7"]


async def test_a_hold_ends_by_itself_unless_a_later_one_says_otherwise(people: People) -> None:
    late, past = Timestamp(), Timestamp(seconds=1)
    late.FromJsonString("2100-01-01T00:00:00Z")
    await hold(people, held=True, until=late)
    assert [row["kind"] for row in await people.service.rows(STORAGE_ORDERS)] == ["LIFT"]
    await hold(people, held=True)
    assert await people.service.rows(STORAGE_ORDERS) == []
    await hold(people, held=True, until=past)
    assert people.asked_of_storage == ["hold", "hold", "hold", "lift"]


async def test_reports_of_one_picture_are_folded(people: People) -> None:
    first = await people.report("ast_1")
    assert (first.state, first.count, first.sha256) == (review_pb2.REPORT_STATE_OPEN, 1, SHA256)
    assert (await people.report("ast_1")).count == 1  # the same reporter
    by_url = await people.report(url="https://pictures.example/a/ast_1?exp=1&kid=k&sig=s", reporter="bob")
    assert (by_url.report_id, by_url.count) == (first.report_id, 2)
    assert (await people.report("ast_1", reporter="")).count == 3
    answer = await people.service.people.ListReports(pb.ListReportsRequest(), metadata=REVIEWER)
    assert [(report.report_id, report.count) for report in answer.reports] == [(first.report_id, 3)]
    (waiting,) = await people.queue()
    assert (waiting.cause, waiting.asset_id, waiting.text) == (review_pb2.REVIEW_CAUSE_REPORT, "ast_1", "")
    assert (await people.claim()).text == "SEXUAL: look at this"


async def test_reports_by_many_at_once_are_one(people: People) -> None:
    made = await asyncio.gather(*(people.report("ast_1", reporter=f"user {n}") for n in range(8)))
    assert len({report.report_id for report in made}) == 1
    assert max(report.count for report in made) == 8


async def test_only_what_is_published_can_be_reported(people: People) -> None:
    people.service.assets.states["ast_1"] = "BLOCKED"
    assert (await refused(people.report("ast_1"))).reason == "ASSET_NOT_FOUND"
    people.service.assets.put("ast_theirs", DATA, tenant="other")
    assert (await refused(people.report("ast_theirs"))).reason == "ASSET_NOT_FOUND"


async def test_reporters_are_limited(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_store, "REPORTER_HOURLY", 2)
    monkeypatch.setattr(report_store, "TENANT_HOURLY", 3)
    for number in range(4):
        people.service.assets.put(f"ast_{number}", encode(scene(number)))
    await people.report("ast_0")
    await people.report("ast_1")
    error = await refused(people.report("ast_2"))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert error.retry_after
    await people.report("ast_2", reporter="bob")
    assert (await refused(people.report("ast_3", reporter="cid"))).reason == "RATE_LIMITED"


async def states(people: People) -> dict[str, review_pb2.ReportState.ValueType]:
    found = {}
    for state in review_pb2.ReportState.values()[1:]:
        answer = await people.service.people.ListReports(pb.ListReportsRequest(state=state), metadata=OPERATOR)
        found |= {report.report_id: report.state for report in answer.reports}
    return found


async def test_an_upheld_report_is_a_takedown(people: People) -> None:
    report = await people.report("ast_1")
    await people.decide(await people.claim(), BLOCK)
    assert people.asked_of_storage == ["take down"]
    assert await states(people) == {report.report_id: review_pb2.REPORT_STATE_UPHELD}
    assert (await people.service.image(DATA)).decision == BLOCK


async def test_upholding_it_may_be_repeated_until_storage_has_done_it(people: People) -> None:
    await people.report("ast_1")
    mine = await people.claim()
    people.service.assets.failure = Unavailable("storage is away")
    assert (await refused(people.decide(mine, BLOCK))).code is Code.UNAVAILABLE
    people.service.assets.failure = None
    assert (await people.decide(mine, BLOCK)).state == review_pb2.REVIEW_STATE_DECIDED
    assert people.asked_of_storage == ["take down"]
    records = [row["action"] for row in await people.service.rows(AUDIT_RECORDS)]
    assert (records.count("TAKEDOWN"), records.count("REVIEW_DECIDED")) == (1, 1)


async def test_a_dismissed_report_leaves_the_picture_and_the_next_one_is_new(people: People) -> None:
    report = await people.report("ast_1")
    await people.decide(await people.claim(), ALLOW)
    assert people.asked_of_storage == []
    assert await states(people) == {report.report_id: review_pb2.REPORT_STATE_DISMISSED}
    assert (await people.report("ast_1")).report_id != report.report_id


async def test_a_takedown_ends_the_reports_of_the_picture(people: People) -> None:
    report = await people.report("ast_1")
    mine = await people.claim()
    await people.take_down("ast_1")
    (told,) = await people.events(events_pb2.ReviewDecided)
    assert isinstance(told, events_pb2.ReviewDecided)
    assert (told.review_id, told.outcome) == (mine.review_id, events_pb2.REVIEW_OUTCOME_BLOCKED)
    assert (await refused(people.decide(mine, ALLOW))).reason == "WRONG_STATE"
    assert await states(people) == {report.report_id: review_pb2.REPORT_STATE_UPHELD}
    assert await people.queue() == []
