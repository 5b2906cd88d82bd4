"""audit list, verify, export, erase. They need a key with the role OPERATOR, as the development key has."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import IO

import click

from imagemesh.calls import Connection
from imagemesh.cli.failures import FAILED, told
from imagemesh.cli.output import facts, json_option, moment, note, plain, print_message, show, table
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.moderation.v1 import audit_pb2, audit_service_pb2, audit_service_pb2_grpc, verdict_pb2

ACTIONS = [name.removeprefix("AUDIT_ACTION_").lower() for name in audit_pb2.AuditAction.keys()[1:]]
VERIFY_SECONDS = 3600.0
DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def audit() -> None:
    """Read, verify and export the record of moderation, and erase a user from it."""


@audit.command("list")
@click.option("--tenant", default="", help="Only of this tenant.")
@click.option("--action", type=click.Choice(ACTIONS), help="Only of this kind.")
@click.option("--from", "since", type=DAY, help="Only at or after this time, UTC.")
@click.option("--to", "until", type=DAY, help="Only before this time, UTC.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@click.pass_context
def list_records(context: click.Context, /, limit: int, as_json: bool, **given: object) -> None:
    """List records, newest first."""
    request = _list_request(context)
    records: list[audit_pb2.AuditRecord] = []
    with _client(context.obj) as client, told():
        stub = client.stub(audit_service_pb2_grpc.AuditServiceStub)
        while len(records) < limit:
            request.page_size = min(200, limit - len(records))
            answer = client.call(stub.ListAuditRecords, request)
            records += answer.records
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    if as_json:
        print_message(audit_service_pb2.ListAuditRecordsResponse(records=records, next_page_token=request.page_token))
        return
    columns = ("sequence", "time", "tenant", "what", "decision", "actor", "policy", "about")
    show(table(*columns, rows=[_row(record) for record in records]))


@audit.command()
@click.option(
    "--from-sequence", type=click.IntRange(min=0), default=0, help="Begin at this record; default: the first."
)
@json_option
@click.pass_obj
def verify(session: Session, from_sequence: int, as_json: bool) -> None:
    """Recompute the chain and compare it with its checkpoints. Exit status 1 when a record does not fit."""
    request = audit_service_pb2.VerifyAuditRequest(from_sequence=from_sequence)
    with _client(session, VERIFY_SECONDS) as client, told():
        answer = client.call(client.stub(audit_service_pb2_grpc.AuditServiceStub).VerifyAudit, request)
    if as_json:
        print_message(answer)
    else:
        _tell(answer)
    if not answer.intact:
        raise SystemExit(FAILED)


@audit.command()
@click.option("--tenant", default="", help="Only of this tenant.")
@click.option("--from", "since", type=DAY, help="Only at or after this time, UTC.")
@click.option("--to", "until", type=DAY, help="Only before this time, UTC.")
@click.option("--output", "-o", type=click.File("wb"), default="-", metavar="FILE", help="Default: standard output.")
@click.pass_obj
def export(session: Session, tenant: str, since: datetime | None, until: datetime | None, output: IO[bytes]) -> None:
    """Write records as JSON Lines, oldest first."""
    request = audit_service_pb2.ExportAuditRecordsRequest(tenant=tenant)
    if since:
        request.from_time.FromDatetime(since.replace(tzinfo=UTC))
    if until:
        request.to_time.FromDatetime(until.replace(tzinfo=UTC))
    count = 0
    with _client(session) as client, told():
        stub = client.stub(audit_service_pb2_grpc.AuditServiceStub)
        for piece in client.read(stub.ExportAuditRecords, request, VERIFY_SECONDS):
            output.write(piece.lines)
            count += piece.lines.count(b"\n")
    output.flush()
    note(f"{count} records")


@audit.command()
@click.argument("tenant")
@click.argument("user")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def erase(session: Session, tenant: str, user: str, yes: bool, as_json: bool) -> None:
    """Erase USER of TENANT: the id, texts, their hashes and notes. The chain stays valid."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("give --yes where nobody can be asked")
        click.confirm(f"Erase {user} of {tenant} for good?", abort=True)
    request = audit_service_pb2.EraseUserRequest(tenant=tenant, user=user)
    with _client(session, VERIFY_SECONDS) as client, told():
        answer = client.call(client.stub(audit_service_pb2_grpc.AuditServiceStub).EraseUser, request, repeatable=False)
    if as_json:
        print_message(answer)
    else:
        click.echo(f"erased in {answer.records} records")


def _client(session: Session, timeout: float = 30.0) -> Client:
    return Client(*session.moderation(), Connection(timeout=timeout))


def _list_request(context: click.Context) -> audit_service_pb2.ListAuditRecordsRequest:
    given = context.params
    request = audit_service_pb2.ListAuditRecordsRequest(tenant=given["tenant"])
    if given["action"]:
        request.action = audit_pb2.AuditAction.Value(f"AUDIT_ACTION_{given['action'].upper()}")
    if given["since"]:
        request.from_time.FromDatetime(given["since"].replace(tzinfo=UTC))
    if given["until"]:
        request.to_time.FromDatetime(given["until"].replace(tzinfo=UTC))
    return request


def _row(record: audit_pb2.AuditRecord) -> tuple[str, ...]:
    policy = f"{record.policy_id} {record.policy_version}" if record.policy_id else ""
    return (
        str(record.sequence or ""),
        moment(record.create_time),
        record.tenant,
        plain(audit_pb2.AuditAction.Name(record.action), "AUDIT_ACTION_"),
        plain(verdict_pb2.Decision.Name(record.decision), "DECISION_"),
        record.actor,
        policy,
        record.asset_id or record.job_id or record.verdict_id,
    )


def _tell(answer: audit_service_pb2.VerifyAuditResponse) -> None:
    found = "intact" if answer.intact else f"broken at record {answer.first_broken_sequence}: {answer.finding}"
    checkpoint = answer.checkpoint
    newest = f"{checkpoint.sequence}, of {moment(checkpoint.create_time)}" if checkpoint.sequence else "none"
    show(
        facts(
            ("audit", found),
            ("checked", f"{answer.checked} records"),
            ("newest checkpoint", newest),
            ("compared with", ", ".join(map(_anchor, answer.compared))),
            ("not compared with", ", ".join(map(_anchor, answer.not_compared))),
        )
    )


def _anchor(anchor: audit_pb2.AuditAnchor.ValueType) -> str:
    return plain(audit_pb2.AuditAnchor.Name(anchor), "AUDIT_ANCHOR_") + "s"
