"""usage: what was spent, and what binds the key."""

from __future__ import annotations

import click
from rich.console import RenderableType

from imagemesh.cli.failures import told
from imagemesh.cli.output import facts, json_option, money, plain, print_message, show, table
from imagemesh.cli.session import Session
from imagemesh.router.v1 import usage_pb2, usage_service_pb2

GROUPS = [name.removeprefix("USAGE_GROUP_").lower() for name in usage_pb2.UsageGroup.keys()[1:]]


@click.command()
@click.option("--by", "group", type=click.Choice(GROUPS), help="Break it down.")
@json_option
@click.pass_obj
def usage(session: Session, group: str | None, as_json: bool) -> None:
    """Show this month's jobs, pictures and cost, and the key's limits."""
    wanted = usage_pb2.UsageGroup.Value(f"USAGE_GROUP_{(group or 'unspecified').upper()}")
    with session.client() as client, told():
        report = client.call(client.usage.GetUsage, usage_service_pb2.GetUsageRequest(group_by=wanted))
        limits = client.call(client.usage.GetLimits, usage_service_pb2.GetLimitsRequest())
    if as_json:
        print_message(report)
        print_message(limits)
        return
    rows = [_row(row) for row in report.rows]
    show(table(group or "", "jobs", "pictures", "cost", rows=rows))
    show(_limits(limits))


def _row(row: usage_pb2.UsageRow) -> tuple[str, ...]:
    return (row.group or "all", str(row.jobs), str(row.images), money(row.debit))


def _limits(limits: usage_service_pb2.GetLimitsResponse) -> RenderableType:
    """What the key has used and may use, over all months."""
    bounds = [(plain(limit.name, ""), f"{limit.used} of {limit.limit or 'any number'}") for limit in limits.limits]
    amounts = [
        ("cap of the key", money(limits.spend_cap) or "none"),
        ("spent by the key", money(limits.spent)),
        ("reserved for unfinished jobs", money(limits.reserved)),
        ("held for unknown outcomes", money(limits.held)),
    ]
    return facts(*amounts, *bounds)
