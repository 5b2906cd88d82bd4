"""The service over a real server: verdicts, repeats, tenants, refusals."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagemesh.moderation.v1 import (
    audit_service_pb2,
    moderation_service_pb2,
    policy_pb2,
    review_service_pb2,
    verdict_pb2,
)
from imagemesh.moderation.v1 import moderation_service_pb2 as pb

from mesh.errors import Code, Unavailable
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.config import DEFAULT_POLICY
from services.moderation.decoding import inspect
from services.moderation.perceptual import BlockedHash
from services.moderation.tables import OUTBOX, VERDICTS
from services.moderation.verdicts import Category
from services.moderation.wire import category_out
from tests.moderation.pictures import TRANSFORMS, encode, flat, png_header, scene
from tests.moderation.running import Running, internal, key, refused, running

SECRET = "hardcore porn with a woman called Zanzibar"
BORDERLINE = "fake mugshot of my neighbour"


async def test_a_prompt_is_judged_and_recorded(moderation_on_each: Running) -> None:
    verdict = await moderation_on_each.prompt(SECRET, job_id="job_1")
    assert verdict.decision == verdict_pb2.DECISION_BLOCK
    assert (verdict.tenant, verdict.job_id, verdict.policy_id, verdict.policy_version) == (
        "acme",
        "job_1",
        "default",
        1,
    )
    assert verdict.subject == verdict_pb2.SUBJECT_KIND_PROMPT
    assert verdict.layer in {"rules", "sentence"}
    assert verdict.length == len(SECRET)
    assert verdict.create_time.ToMicroseconds() > 0
    (record,) = await moderation_on_each.rows(AUDIT_RECORDS)
    assert (record["action"], record["actor"], record["decision"]) == ("PROMPT_JUDGED", "mesh", "BLOCK")
    assert (record["verdict_id"], record["sha256"]) == (verdict.verdict_id, verdict.sha256)


async def test_get_verdict_tells_the_same(moderation_on_each: Running) -> None:
    given_verdict = await moderation_on_each.prompt(SECRET, job_id="job_1")
    request = pb.GetVerdictRequest(verdict_id=given_verdict.verdict_id)
    answer = await moderation_on_each.stub.GetVerdict(request, metadata=internal())
    assert answer.verdict == given_verdict


async def test_no_text_is_stored_anywhere(moderation: Running) -> None:
    await moderation.prompt(SECRET, job_id="job_1")
    for table in (VERDICTS, AUDIT_RECORDS, OUTBOX):
        for row in await moderation.rows(table):
            assert "Zanzibar" not in json.dumps({name: str(value) for name, value in row.items()})


async def test_a_takeover_gets_the_same_verdict(moderation_on_each: Running) -> None:
    first, *others = await asyncio.gather(*(moderation_on_each.prompt("a cat", job_id="job_1") for _ in range(8)))
    assert all(other == first for other in others)
    assert len(await moderation_on_each.rows(AUDIT_RECORDS)) == 1


async def test_what_makes_a_verdict_another_one(moderation: Running) -> None:
    strict = policy_pb2.Safety(level=policy_pb2.SAFETY_LEVEL_STRICTEST)
    verdicts = [
        await moderation.prompt("a cat", job_id="job_1"),
        await moderation.prompt("a dog", job_id="job_1"),
        await moderation.prompt("a cat", job_id="job_2"),
        await moderation.prompt("a cat", verdict_pb2.TEXT_KIND_STYLE, job_id="job_1"),
        await moderation.prompt("a cat", job_id="job_1", safety=strict),
        await moderation.prompt("a cat", job_id="job_1", metadata=internal("other")),
        await moderation.prompt("a cat"),
        await moderation.prompt("a cat"),
    ]
    assert len({verdict.verdict_id for verdict in verdicts}) == len(verdicts)


async def test_a_policy_change_makes_another_verdict(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    policy = tmp_path / "default.yaml"
    unattended = yaml.safe_load(DEFAULT_POLICY.read_text()) | {"review_decision": "BLOCK"}
    policy.write_text(yaml.safe_dump(unattended))
    async with running(url, policy) as service:
        before = await service.prompt(BORDERLINE, job_id="job_1")
    policy.write_text(yaml.safe_dump(unattended | {"version": 2, "review_decision": "REVIEW"}))
    async with running(url, policy) as service:
        after = await service.prompt(BORDERLINE, job_id="job_1")
        events = await service.rows(OUTBOX)
        repeated = await service.prompt(BORDERLINE, job_id="job_1")
        assert await service.rows(OUTBOX) == events
    assert before.decision == verdict_pb2.DECISION_BLOCK
    assert (after.decision, after.policy_version) == (verdict_pb2.DECISION_REVIEW, 2)
    assert repeated == after != before
    assert [event["type"] for event in events if event["type"] != "AuditCheckpointed"] == ["ReviewRequested"]


async def test_callers_are_judged_as_their_own_tenant(moderation: Running) -> None:
    verdict = await moderation.prompt("a cat", metadata=(*key("acme"), ("x-imagemesh-tenant", "other")))
    assert verdict.tenant == "acme"
    (record,) = await moderation.rows(AUDIT_RECORDS)
    assert record["actor"] == "key_a"


async def test_verdicts_of_others_do_not_exist(moderation: Running) -> None:
    verdict = await moderation.prompt("a cat", metadata=key("acme"))
    request = pb.GetVerdictRequest(verdict_id=verdict.verdict_id)
    assert (await moderation.stub.GetVerdict(request, metadata=key("reviewer"))).verdict == verdict
    assert (await moderation.stub.GetVerdict(request, metadata=internal(""))).verdict == verdict
    for metadata in (key("other"), key("all roles"), internal("other")):
        error = await refused(moderation.stub.GetVerdict(request, metadata=metadata))
        assert (error.code, error.reason) == (Code.NOT_FOUND, "VERDICT_NOT_FOUND")


async def test_a_picture_is_bound_to_the_bytes_that_were_read(moderation_on_each: Running) -> None:
    data = encode(scene(1))
    moderation_on_each.assets.put("ast_1", data)
    verdict = await moderation_on_each.image(asset_id="ast_1", job_id="job_1")
    assert verdict.decision == verdict_pb2.DECISION_ALLOW
    assert verdict.sha256 == hashlib.sha256(data).hexdigest()
    assert (verdict.asset_id, verdict.length) == ("ast_1", len(data))
    assert set(verdict.not_evaluated) == {category_out(each) for each in Category if each is not Category.SEXUAL}
    assert await moderation_on_each.image(asset_id="ast_1", job_id="job_1") == verdict
    moderation_on_each.assets.put("ast_1", encode(scene(2)))
    assert (await moderation_on_each.image(asset_id="ast_1", job_id="job_1")).verdict_id != verdict.verdict_id


@pytest.mark.parametrize("transform", ["JPEG at 40", "half the size", "flipped left to right", "turned by 90"])
async def test_a_blocked_picture_comes_back(moderation: Running, transform: str) -> None:
    original = scene(3)
    entry = BlockedHash("bhs_1", Category.BRAND, inspect(encode(original)).fingerprint.hashes[0])
    await moderation.moderation.store.block([entry], "tests")
    verdict = await moderation.image(TRANSFORMS[transform](original))
    assert (verdict.decision, verdict.layer) == (verdict_pb2.DECISION_BLOCK, "perceptual-hash")
    assert verdict.evidence[0].entry == "hash/bhs_1"
    assert (await moderation.image(encode(scene(4)))).decision == verdict_pb2.DECISION_ALLOW


async def test_a_hash_blocked_later_changes_the_verdict(moderation_on_each: Running) -> None:
    data = encode(scene(3))
    before = await moderation_on_each.image(data, job_id="job_1")
    entry = BlockedHash("bhs_1", Category.GORE, None, hashlib.sha256(data).hexdigest())
    assert await moderation_on_each.moderation.store.block([entry], "tests") == 1
    assert await moderation_on_each.moderation.store.block([entry], "tests") == 0
    after = await moderation_on_each.image(data, job_id="job_1")
    assert (before.decision, after.decision) == (verdict_pb2.DECISION_ALLOW, verdict_pb2.DECISION_BLOCK)
    assert before.verdict_id != after.verdict_id


async def test_storage_away_is_unavailable(moderation: Running) -> None:
    moderation.assets.failure = Unavailable("storage is not there", metadata={"peer": "storage"})
    error = await refused(moderation.image(asset_id="ast_1"))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "PEER_UNAVAILABLE")
    assert await moderation.rows(VERDICTS) == []


async def test_an_unknown_asset(moderation: Running) -> None:
    error = await refused(moderation.image(asset_id="ast_9"))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "ASSET_NOT_FOUND")


BAD_PICTURES = {
    "no picture": (b"hello", "IMAGE_UNREADABLE"),
    "truncated": (encode(scene(1))[:-300], "IMAGE_UNREADABLE"),
    "bomb": (png_header(30_000, 30_000), "IMAGE_TOO_LARGE"),
    "too long": (b"\x89PNG\r\n\x1a\n" + b"\0" * (2 * 1024 * 1024), "INVALID_FIELD"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_PICTURES.values(), ids=BAD_PICTURES)
async def test_bad_pictures(moderation: Running, data: bytes, reason: str) -> None:
    error = await refused(moderation.image(data))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, reason)


def prompt(*texts: str, kind: int = 1, **fields: object) -> pb.ModeratePromptRequest:
    given_texts = [pb.PromptText(kind=kind, text=text) for text in texts]  # type: ignore[arg-type]
    return pb.ModeratePromptRequest(texts=given_texts, **fields)  # type: ignore[arg-type]


BAD_PROMPTS = {
    "no text": (prompt(), "texts"),
    "empty text": (prompt(""), "texts"),
    "17 texts": (prompt(*["a"] * 17), "texts"),
    "no kind": (prompt("a", kind=0), "texts[0].kind"),
    "unknown kind": (prompt("a", kind=99), "texts[0].kind"),
    "32,001 characters": (prompt("a" * 32_001), "texts[0].text"),
    "too much in all": (prompt(*["a" * 32_000] * 5), "texts"),
    "job id": (prompt("a", job_id="no spaces"), "job_id"),
    "user": (prompt("a", user="u" * 257), "user"),
    "safety level": (prompt("a", safety={"level": 7}), "safety.level"),
    "safety category": (prompt("a", safety={"block_categories": [0]}), "safety.block_categories"),
}


@pytest.mark.parametrize(("request_", "field"), BAD_PROMPTS.values(), ids=BAD_PROMPTS)
async def test_bad_prompts_name_the_field(moderation: Running, request_: pb.ModeratePromptRequest, field: str) -> None:
    error = await refused(moderation.stub.ModeratePrompt(request_, metadata=internal()))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in {violation.field for violation in error.violations}


async def test_other_bad_requests(moderation: Running) -> None:
    calls = (
        (moderation.stub.ModerateImage(pb.ModerateImageRequest(), metadata=internal()), "image"),
        (moderation.stub.GetVerdict(pb.GetVerdictRequest(), metadata=internal()), "verdict_id"),
        (moderation.stub.ListPolicies(pb.ListPoliciesRequest(page_size=-1), metadata=internal()), "page_size"),
        (moderation.stub.ModeratePrompt(prompt("a"), metadata=internal("")), "x-imagemesh-tenant"),
    )
    for call, field in calls:
        error = await refused(call)
        assert (error.code, [violation.field for violation in error.violations]) == (Code.INVALID_ARGUMENT, [field])


async def test_the_longest_texts_are_judged(moderation: Running) -> None:
    verdict = await moderation.prompt("a" * 31_982 + " hardcore porn man")
    assert verdict.decision == verdict_pb2.DECISION_BLOCK
    marks = await moderation.prompt("p" + "\u0301" * 10_000 + "ornography of a man")
    assert marks.decision == verdict_pb2.DECISION_BLOCK


async def test_policies(moderation: Running) -> None:
    answer = await moderation.stub.GetPolicy(pb.GetPolicyRequest(), metadata=key("acme"))
    assert (answer.policy.policy_id, answer.policy.version, answer.policy.state) == (
        "default",
        1,
        policy_pb2.POLICY_STATE_LIVE,
    )
    assert answer.policy.etag
    assert not any("floor" in terms.name for terms in answer.policy.lists)
    listed = await moderation.stub.ListPolicies(pb.ListPoliciesRequest(), metadata=key("acme"))
    assert list(listed.policies) == [answer.policy]
    for request in (pb.GetPolicyRequest(policy_id="none"), pb.GetPolicyRequest(policy_id="default", version=9)):
        error = await refused(moderation.stub.GetPolicy(request, metadata=key("acme")))
        assert (error.code, error.reason) == (Code.NOT_FOUND, "POLICY_NOT_FOUND")


async def test_tenants_policies_are_seen_by_their_tenant(tmp_path: Path) -> None:
    policy = tmp_path / "default.yaml"
    policy.write_text(DEFAULT_POLICY.read_text())
    (tmp_path / "tenants").mkdir()
    for tenant in ("acme", "other"):
        own = {"policy": f"{tenant}-own", "version": 1, "tenant": tenant, "review_decision": "FLAG"}
        (tmp_path / "tenants" / f"{tenant}.yaml").write_text(yaml.safe_dump(own))
    async with running(f"sqlite:///{tmp_path / 'm.db'}", policy) as service:
        assert (await service.prompt(BORDERLINE, metadata=key("acme"))).decision == verdict_pb2.DECISION_FLAG
        seen = await service.stub.ListPolicies(pb.ListPoliciesRequest(), metadata=key("acme"))
        assert [found.policy_id for found in seen.policies] == ["acme-own", "default"]
        request = pb.GetPolicyRequest(policy_id="other-own")
        assert (await refused(service.stub.GetPolicy(request, metadata=key("acme")))).code is Code.NOT_FOUND
        pages, token = [], ""
        for _ in range(3):
            page = pb.ListPoliciesRequest(page_size=1, page_token=token)
            answer = await service.stub.ListPolicies(page, metadata=key("operator"))
            pages += [found.policy_id for found in answer.policies]
            token = answer.next_page_token
        assert (pages, token) == (["acme-own", "default", "other-own"], "")


async def test_no_rpc_is_left_for_later(moderation: Running) -> None:
    found: dict[str, set[str]] = {}
    for module in (moderation_service_pb2, review_service_pb2, audit_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            found[service.name] = {
                method.name
                for method in service.methods
                if await _is_for_later(moderation, f"/{service.full_name}/{method.name}", method.server_streaming)
            }
    assert found == {"ModerationService": set(), "ReviewService": set(), "AuditService": set()}


async def _is_for_later(moderation: Running, path: str, streaming: bool) -> bool:
    """Tried with every key, since each rpc takes its own roles; UNIMPLEMENTED must carry a reason and a text."""
    channel = moderation.channel
    call = channel.unary_stream(path) if streaming else channel.unary_unary(path)
    for metadata in (internal(), key("operator"), key("reviewer"), key("acme")):
        error = None
        try:
            await (call(b"", metadata=metadata).read() if streaming else call(b"", metadata=metadata))
        except Exception as raised:  # noqa: BLE001  any status is looked at
            error = await refused(_raise(raised))
        if error is not None and error.code is Code.UNIMPLEMENTED:
            assert error.reason == "NOT_IMPLEMENTED"
            assert "later version" in error.message
            return True
    return False


async def _raise(error: Exception) -> None:
    raise error


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=200))
async def test_any_text_gets_a_verdict(moderation: Running, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert (await moderation.prompt(text)).decision >= verdict_pb2.DECISION_ALLOW


async def test_flat_pictures_are_allowed(moderation: Running) -> None:
    assert (await moderation.image(encode(flat()))).decision == verdict_pb2.DECISION_ALLOW
