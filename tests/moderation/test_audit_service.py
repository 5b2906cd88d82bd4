"""AuditService and its commands, over a running service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner, Result
from imagemesh.cli.main import cli
from imagemesh.moderation.v1 import audit_pb2, audit_service_pb2_grpc
from imagemesh.moderation.v1 import audit_service_pb2 as pb
from imagemesh.moderation.v1 import moderation_service_pb2 as moderation_pb

from mesh.errors import Code
from services.moderation.audit import AuditEntry, record
from services.moderation.audit_tables import AUDIT_RECORDS
from services.moderation.chain import link
from services.moderation.config import DEFAULT_POLICY
from services.moderation.tables import VERDICTS
from tests.moderation.audit_rig import entry
from tests.moderation.running import Running, internal, key, refused, running

OPERATOR = key("operator")


def stub_of(service: Running) -> Any:
    return audit_service_pb2_grpc.AuditServiceStub(service.channel)


async def fill(service: Running, count: int, tenant: str = "acme", user: str = "ann") -> None:
    def work(connection: sa.Connection) -> None:
        for number in range(count):
            record(connection, entry(number, user, tenant))

    await service.database.write(work)


async def listed(service: Running, **wanted: Any) -> list[audit_pb2.AuditRecord]:
    records: list[audit_pb2.AuditRecord] = []
    request = pb.ListAuditRecordsRequest(**wanted)
    while True:
        answer = await stub_of(service).ListAuditRecords(request, metadata=OPERATOR)
        records += answer.records
        request.page_token = answer.next_page_token
        if not request.page_token:
            return records


async def test_a_verdict_is_listed_with_what_it_rests_on(moderation_on_each: Running) -> None:
    verdict = await moderation_on_each.prompt("a nude woman", job_id="job_1")
    (found,) = await listed(moderation_on_each)
    assert found.action == audit_pb2.AUDIT_ACTION_PROMPT_JUDGED
    assert (found.sequence, found.tenant, found.actor, found.verdict_id) == (1, "acme", "mesh", verdict.verdict_id)
    assert (found.decision, list(found.scores)) == (verdict.decision, list(verdict.scores))
    assert (found.sha256, found.length, found.job_id, found.text) == (verdict.sha256, 12, "job_1", "")
    assert (found.policy_id, found.policy_version) == (verdict.policy_id, verdict.policy_version)
    assert len(found.digest) == len(found.chain) == 32


async def test_lists_are_filtered_and_paged_newest_first(moderation_on_each: Running) -> None:
    await fill(moderation_on_each, 5)
    await fill(moderation_on_each, 2, tenant="other")
    await moderation_on_each.database.write(lambda c: record(c, AuditEntry("TAKEDOWN", "acme", "key_p", asset_id="a")))
    everything = await listed(moderation_on_each, page_size=3)
    assert [found.sequence for found in everything] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert [found.sequence for found in await listed(moderation_on_each, tenant="other", page_size=1)] == [7, 6]
    takedown = audit_pb2.AUDIT_ACTION_TAKEDOWN
    assert [found.sequence for found in await listed(moderation_on_each, action=takedown)] == [8]
    middle = everything[3].create_time
    await moderation_on_each.moderation.audit.checkpointing.checkpoint()
    later = await listed(moderation_on_each, from_time=middle)
    earlier = await listed(moderation_on_each, to_time=middle)
    assert {found.sequence for found in later} | {found.sequence for found in earlier} == set(range(1, 9))
    assert all(found.create_time.ToMicroseconds() >= middle.ToMicroseconds() for found in later)
    assert all(found.create_time.ToMicroseconds() < middle.ToMicroseconds() for found in earlier)


async def test_a_page_of_long_texts_stays_below_what_a_client_takes(moderation: Running) -> None:
    long = AuditEntry("PROMPT_JUDGED", "acme", "mesh", text="\N{GRINNING FACE}" * 128_000)
    await moderation.database.write(lambda c: [record(c, long) for _ in range(12)])
    assert len(await listed(moderation, page_size=200)) == 12
    lines = await exported(moderation)
    assert len(lines) == 12


async def exported(service: Running, **wanted: Any) -> list[dict[str, Any]]:
    whole = b""
    async for piece in stub_of(service).ExportAuditRecords(pb.ExportAuditRecordsRequest(**wanted), metadata=OPERATOR):
        assert 0 < len(piece.lines) <= 1 << 20
        assert piece.lines.endswith(b"\n")
        whole += piece.lines
    return [json.loads(line) for line in whole.decode().splitlines()]


async def test_an_export_has_every_record_once_and_can_be_checked_without_the_database(moderation: Running) -> None:
    await fill(moderation, 250)
    lines = await exported(moderation)
    assert [int(line["sequence"]) for line in lines] == list(range(1, 251))
    from base64 import b64decode

    chain = b64decode(lines[0]["chain"]).hex()
    for line in lines[1:]:
        chain = link(chain, b64decode(line["digest"]).hex())
        assert b64decode(line["chain"]).hex() == chain
    assert await exported(moderation, tenant="nobody") == []


async def test_verification_answers_what_is_broken(moderation_on_each: Running) -> None:
    await fill(moderation_on_each, 5)
    await moderation_on_each.moderation.audit.checkpointing.checkpoint()
    answer = await stub_of(moderation_on_each).VerifyAudit(pb.VerifyAuditRequest(), metadata=OPERATOR)
    assert (answer.intact, answer.checked, answer.first_broken_sequence) == (True, 5, 0)
    assert answer.checkpoint.sequence == 5
    assert list(answer.compared) == [audit_pb2.AUDIT_ANCHOR_TABLE]
    assert list(answer.not_compared) == [audit_pb2.AUDIT_ANCHOR_EVENT, audit_pb2.AUDIT_ANCHOR_OBJECT]
    edit = sa.update(AUDIT_RECORDS).where(AUDIT_RECORDS.c.sequence == 3).values(decision="ALLOW")
    await moderation_on_each.database.write(lambda c: c.execute(edit))
    answer = await stub_of(moderation_on_each).VerifyAudit(pb.VerifyAuditRequest(), metadata=OPERATOR)
    assert (answer.intact, answer.first_broken_sequence, answer.finding) == (False, 3, "it was changed")


async def test_erasing_a_user_reaches_records_and_verdicts(moderation_on_each: Running) -> None:
    service = moderation_on_each
    for user in ("ann@example.org", "bob"):
        texts = [moderation_pb.PromptText(kind=1, text=f"a cat of {user}")]
        request = moderation_pb.ModeratePromptRequest(texts=texts, user=user)
        await service.stub.ModeratePrompt(request, metadata=internal())
    request = pb.EraseUserRequest(tenant="acme", user="ann@example.org")
    answer = await stub_of(service).EraseUser(request, metadata=OPERATOR)
    assert answer.records == 3  # the record, the verdict, and its review, which is withdrawn
    for table in (AUDIT_RECORDS, VERDICTS):
        rows = await service.rows(table)
        assert "ann@example.org" not in str(rows)
        assert {row["end_user"] for row in rows} == {"", "bob"}
    assert (await stub_of(service).VerifyAudit(pb.VerifyAuditRequest(), metadata=OPERATOR)).intact
    newest = (await listed(service))[0]
    assert (newest.action, newest.actor, newest.length) == (audit_pb2.AUDIT_ACTION_ERASED, "key_p", 1)
    error = await refused(stub_of(service).EraseUser(request, metadata=OPERATOR))
    assert (error.code, error.reason) == (Code.NOT_FOUND, "USER_NOT_FOUND")


TEXT = "a cat, mail to ann@example.org"


@pytest.mark.parametrize(
    ("retention", "kept"), [("HASHED", ""), ("PLAIN", TEXT), ("SCRUBBED", TEXT.replace("ann@example.org", "[email]"))]
)
async def test_texts_are_kept_as_the_policy_says(tmp_path: Path, retention: str, kept: str) -> None:
    policy = yaml.safe_load(DEFAULT_POLICY.read_text())
    folder = tmp_path / "policies"
    folder.mkdir()
    for path in DEFAULT_POLICY.parent.glob("*.yaml"):
        (folder / path.name).write_text(path.read_text())
    (folder / DEFAULT_POLICY.name).write_text(yaml.safe_dump({**policy, "text_retention": retention}))
    async with running(f"sqlite:///{tmp_path / 'm.db'}", folder / DEFAULT_POLICY.name) as service:
        await service.prompt(TEXT)
        (found,) = await listed(service)
        assert found.text == kept


REFUSED = {
    "action": pb.ListAuditRecordsRequest(action=99),  # type: ignore[arg-type]
    "page_size": pb.ListAuditRecordsRequest(page_size=-1),
    "tenant": pb.ListAuditRecordsRequest(tenant="A B"),
    "page_token": pb.ListAuditRecordsRequest(page_token="x"),
    "from_sequence": pb.VerifyAuditRequest(from_sequence=-1),
    "user": pb.EraseUserRequest(tenant="acme"),
    "tenant of a user": pb.EraseUserRequest(user="ann"),
}


@pytest.mark.parametrize("field", REFUSED)
async def test_requests_that_make_no_sense_are_refused(moderation: Running, field: str) -> None:
    request = REFUSED[field]
    method = getattr(stub_of(moderation), type(request).__name__.removesuffix("Request"))
    error = await refused(method(request, metadata=OPERATOR))
    assert error.code is Code.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == [field.split()[0]]


@pytest.mark.parametrize("caller", ["acme", "reviewer"])
async def test_only_operators_may(moderation: Running, caller: str) -> None:
    stub = stub_of(moderation)
    calls = (
        stub.ListAuditRecords(pb.ListAuditRecordsRequest(), metadata=key(caller)),
        stub.ExportAuditRecords(pb.ExportAuditRecordsRequest(), metadata=key(caller)),
        stub.VerifyAudit(pb.VerifyAuditRequest(), metadata=key(caller)),
        stub.EraseUser(pb.EraseUserRequest(tenant="acme", user="ann"), metadata=key(caller)),
    )
    for call in calls:
        assert (await refused(call)).code is Code.PERMISSION_DENIED


async def command(service: Running, *arguments: str) -> Result:
    target = f"127.0.0.1:{service.moderation.server.port}"
    environment = {"IMAGEMESH_MODERATION_TARGET": target, "IMAGEMESH_API_KEY": "operator"}
    run = CliRunner().invoke
    return await asyncio.to_thread(lambda: run(cli, ["audit", *arguments], env=environment, prog_name="imagemesh"))


async def test_the_commands_list_verify_export_and_erase(moderation: Running, tmp_path: Path) -> None:
    await fill(moderation, 3)
    result = await command(moderation, "list", "--tenant", "acme", "--action", "prompt_judged")
    assert result.exit_code == 0
    assert "prompt judged" in result.output
    assert len((await command(moderation, "list", "--limit", "2")).stdout.splitlines()) == 3
    assert len(json.loads((await command(moderation, "list", "--json")).stdout)["records"]) == 3

    target = tmp_path / "audit.jsonl"
    result = await command(moderation, "export", "--output", str(target))
    assert (result.exit_code, result.stderr) == (0, "3 records\n")
    assert len([json.loads(line) for line in target.read_text().splitlines()]) == 3

    assert (await command(moderation, "erase", "acme", "ann")).exit_code == 2  # nobody to ask
    result = await command(moderation, "erase", "acme", "ann", "--yes")
    assert (result.exit_code, result.stdout) == (0, "erased in 3 records\n")
    result = await command(moderation, "erase", "acme", "ann", "--yes")
    assert (result.exit_code, "USER_NOT_FOUND" in result.stderr) == (1, True)

    result = await command(moderation, "verify")
    assert (result.exit_code, "intact" in result.stdout, "4 records" in result.stdout) == (0, True, True)
    await moderation.database.write(lambda c: c.execute(sa.text("DELETE FROM audit_records WHERE sequence = 2")))
    result = await command(moderation, "verify")
    assert result.exit_code == 1
    assert "broken at record 2: it is missing" in result.stdout
    result = await command(moderation, "verify", "--json")
    assert (result.exit_code, json.loads(result.stdout)["firstBrokenSequence"]) == (1, "2")
