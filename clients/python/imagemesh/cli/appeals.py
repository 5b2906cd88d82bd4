"""reviews appeals, settle: what callers object to."""

from __future__ import annotations

import click

from imagemesh.cli.failures import told
from imagemesh.cli.output import json_option, moment, plain, print_message, show, table
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.moderation.v1 import review_pb2, review_service_pb2_grpc
from imagemesh.moderation.v1 import review_service_pb2 as pb2

STATES = ["open", "granted", "denied"]
Stub = review_service_pb2_grpc.ReviewServiceStub


@click.command("appeals")
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True)
@json_option
@click.pass_obj
def list_appeals(session: Session, state: str, as_json: bool) -> None:
    """List appeals, oldest first."""
    request = pb2.ListAppealsRequest(page_size=200, state=review_pb2.AppealState.Value(f"APPEAL_STATE_{state.upper()}"))
    with Client(*session.moderation()) as client, told():
        answer = client.call(client.stub(Stub).ListAppeals, request)
    if as_json:
        print_message(answer)
        return
    rows = [_row(appeal) for appeal in answer.appeals]
    show(table("appeal", "tenant", "verdict", "state", "made", "statement", rows=rows, empty="no appeals"))


@click.command("settle")
@click.argument("appeal_id", metavar="APPEAL")
@click.argument("outcome", type=click.Choice(["grant", "deny"]))
@click.option("--answer", default="", help="What the caller reads.")
@json_option
@click.pass_obj
def settle(session: Session, appeal_id: str, outcome: str, answer: str, as_json: bool) -> None:
    """Grant or deny APPEAL."""
    granted = outcome == "grant"
    state = review_pb2.APPEAL_STATE_GRANTED if granted else review_pb2.APPEAL_STATE_DENIED
    request = pb2.DecideAppealRequest(appeal_id=appeal_id, outcome=state, answer=answer)
    with Client(*session.moderation()) as client, told():
        decided = client.call(client.stub(Stub).DecideAppeal, request, repeatable=False)
    if as_json:
        print_message(decided)
    else:
        click.echo(f"{appeal_id}: {'granted' if granted else 'denied'}")


def _row(appeal: review_pb2.Appeal) -> tuple[str, ...]:
    state = plain(review_pb2.AppealState.Name(appeal.state), "APPEAL_STATE_")
    made = moment(appeal.create_time)
    return (appeal.appeal_id, appeal.tenant, appeal.verdict_id, state, made, appeal.statement[:80])


COMMANDS: tuple[click.Command, ...] = (list_appeals, settle)
