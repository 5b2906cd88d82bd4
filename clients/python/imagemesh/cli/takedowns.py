"""reviews reports, picture, takedown, restore, hold, strikes, clear-strikes: published pictures, and users."""

from __future__ import annotations

from pathlib import Path

import click

from imagemesh.cli.failures import told
from imagemesh.cli.output import facts, json_option, moment, plain, print_message, show, table
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.moderation.v1 import review_pb2, review_service_pb2_grpc, verdict_pb2
from imagemesh.moderation.v1 import review_service_pb2 as pb2
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc

STATES = ["open", "upheld", "dismissed"]
CATEGORIES = [name.removeprefix("CATEGORY_") for name in verdict_pb2.Category.keys()[1:]]
BLURRED_WIDTH = 24  # pixels; what is enough to tell a portrait from a landscape
READ_SECONDS = 60.0
Stub = review_service_pb2_grpc.ReviewServiceStub


@click.command("reports")
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True)
@json_option
@click.pass_obj
def list_reports(session: Session, state: str, as_json: bool) -> None:
    """List reports of published pictures, the most severe first."""
    request = pb2.ListReportsRequest(page_size=200, state=review_pb2.ReportState.Value(f"REPORT_STATE_{state.upper()}"))
    with Client(*session.moderation()) as client, told():
        answer = client.call(client.stub(Stub).ListReports, request)
    if as_json:
        print_message(answer)
        return
    rows = [_report(report) for report in answer.reports]
    columns = ("report", "tenant", "picture", "reason", "count", "came", "statement")
    show(table(*columns, rows=rows, empty="no reports"))


@click.command("takedown")
@click.argument("asset_id", metavar="PICTURE")
@click.option("--reason", type=click.Choice(CATEGORIES, case_sensitive=False), required=True)
@click.option("--note", default="", help="For the record.")
@click.option("--legal-hold", is_flag=True, help="Keep the bytes for a legal reason.")
@json_option
@click.pass_context
def take_down(context: click.Context, /, asset_id: str, as_json: bool, **given: object) -> None:
    """Make PICTURE, and all with the same bytes, unservable at once, and block what looks like it."""
    request = pb2.TakeDownAssetRequest(asset_id=asset_id, note=str(given["note"]), legal_hold=bool(given["legal_hold"]))
    request.reason = verdict_pb2.Category.Value(f"CATEGORY_{str(given['reason']).upper()}")
    with Client(*context.obj.moderation()) as client, told():
        answer = client.call(client.stub(Stub).TakeDownAsset, request)
    if as_json:
        print_message(answer)
        return
    takedown = answer.takedown
    show(facts(("takedown", takedown.takedown_id), ("sha256", takedown.sha256)))


@click.command("picture")
@click.argument("asset_id", metavar="PICTURE")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE")
@click.option("--reveal", is_flag=True, help="The original, not a few blurred spots.")
@click.pass_obj
def picture(session: Session, asset_id: str, output: Path, reveal: bool) -> None:
    """Save PICTURE, in quarantine too: so small that it tells little, or the original with --reveal."""
    spec = None if reveal else asset_pb2.RenditionSpec(width=BLURRED_WIDTH, format="png")
    request = storage_service_pb2.ReadAssetRequest(asset_id=asset_id, rendition=spec)
    with Client(*session.storage()) as client, told():
        stub = client.stub(storage_service_pb2_grpc.StorageServiceStub)
        data = b"".join(answer.chunk.data for answer in client.read(stub.ReadAsset, request, READ_SECONDS))
    output.write_bytes(data)
    click.echo(f"{output}  ({len(data)} bytes{'' if reveal else ', blurred'})")


@click.command("restore")
@click.argument("takedown_id", metavar="TAKEDOWN")
@click.option("--note", required=True, help="For the record.")
@json_option
@click.pass_obj
def restore(session: Session, takedown_id: str, note: str, as_json: bool) -> None:
    """Undo TAKEDOWN."""
    request = pb2.RestoreAssetRequest(takedown_id=takedown_id, note=note)
    with Client(*session.moderation()) as client, told():
        answer = client.call(client.stub(Stub).RestoreAsset, request, repeatable=False)
    if as_json:
        print_message(answer)
    else:
        click.echo(f"restored {answer.takedown.asset_id}")


@click.command("hold")
@click.argument("asset_id", metavar="PICTURE")
@click.option("--end", is_flag=True, help="End the hold.")
@click.option("--note", required=True, help="For the record.")
@json_option
@click.pass_obj
def hold(session: Session, asset_id: str, end: bool, note: str, as_json: bool) -> None:
    """Keep PICTURE's bytes from being deleted for a legal reason."""
    request = pb2.SetLegalHoldRequest(asset_id=asset_id, hold=not end, note=note)
    with Client(*session.moderation()) as client, told():
        answer = client.call(client.stub(Stub).SetLegalHold, request)
    if as_json:
        print_message(answer)
    else:
        click.echo(f"{asset_id}: {'held' if answer.hold else 'not held'}")


@click.command("strikes")
@click.option("--user", default="", help="Only of this user.")
@json_option
@click.pass_obj
def list_strikes(session: Session, user: str, as_json: bool) -> None:
    """List strikes, newest first."""
    with Client(*session.moderation()) as client, told():
        answer = client.call(client.stub(Stub).ListStrikes, pb2.ListStrikesRequest(page_size=200, user=user))
    if as_json:
        print_message(answer)
        return
    rows = [_strike(strike) for strike in answer.strikes]
    show(table("tenant", "user", "category", "verdict", "given", "ends", "cleared", rows=rows, empty="no strikes"))


@click.command("clear-strikes")
@click.argument("tenant")
@click.argument("user")
@click.option("--note", default="", help="For the record.")
@json_option
@click.pass_obj
def clear_strikes(session: Session, tenant: str, user: str, note: str, as_json: bool) -> None:
    """Clear the strikes of USER of TENANT."""
    request = pb2.ClearStrikesRequest(tenant=tenant, user=user, note=note)
    with Client(*session.moderation()) as client, told():
        answer = client.call(client.stub(Stub).ClearStrikes, request, repeatable=False)
    if as_json:
        print_message(answer)
    else:
        click.echo(f"cleared {answer.cleared}")


def _report(report: review_pb2.Report) -> tuple[str, ...]:
    reason = plain(verdict_pb2.Category.Name(report.reason), "CATEGORY_")
    came = moment(report.create_time)
    return (report.report_id, report.tenant, report.asset_id, reason, str(report.count), came, report.statement[:80])


def _strike(strike: review_pb2.Strike) -> tuple[str, ...]:
    return (
        strike.tenant,
        strike.user,
        plain(verdict_pb2.Category.Name(strike.category), "CATEGORY_"),
        strike.verdict_id,
        moment(strike.create_time),
        moment(strike.expire_time),
        "yes" if strike.cleared else "",
    )


COMMANDS: tuple[click.Command, ...] = (list_reports, picture, take_down, restore, hold, list_strikes, clear_strikes)
