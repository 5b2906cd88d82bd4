"""budget: declared in the contract and answered by a later version of the mesh. It asks the mesh, so that the day it
can answer is the day the command works."""

from __future__ import annotations

import click

from imagemesh.cli.failures import told
from imagemesh.cli.output import json_option, print_message
from imagemesh.cli.session import Session
from imagemesh.router.v1 import usage_service_pb2


@click.command()
@json_option
@click.pass_obj
def budget(session: Session, as_json: bool) -> None:
    """List the budgets (comes later)."""
    with session.client() as client, told():
        print_message(client.call(client.usage.ListBudgets, usage_service_pb2.ListBudgetsRequest()))
