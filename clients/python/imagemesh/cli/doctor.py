"""doctor: what this machine has for a mesh, what is missing, and how to get it."""

from __future__ import annotations

import click

from imagemesh.cli.failures import FAILED
from imagemesh.cli.launch import order
from imagemesh.cli.output import json_option, print_document, show, table
from imagemesh.cli.session import Session

MARKS = {"ok": "[green]found[/]", "optional": "[yellow]absent[/]", "missing": "[red]missing[/]"}


@click.command()
@json_option
@click.pass_obj
@click.pass_context
def doctor(context: click.Context, session: Session, as_json: bool) -> None:
    """Tell what this machine has for a mesh, and how to get what is missing (then the exit status is 1)."""
    events = order(session.home, "doctor")
    findings = [finding for event in events for finding in event["details"].get("findings", [])]
    if as_json:
        print_document({"findings": findings})
    else:
        rows = [(f["part"], MARKS[f["state"]], f["text"], f["advice"]) for f in findings]
        show(table("part", "", "what", "how to get it", rows=rows))
    if not findings or any(finding["state"] == "missing" for finding in findings):
        context.exit(FAILED)
