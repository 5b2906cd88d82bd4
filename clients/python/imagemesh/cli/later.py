"""budget, reviews: declared in the contract and answered by a later version of the mesh. Each asks the mesh, so
that the day it can answer is the day the command works."""

from __future__ import annotations

import click

from imagemesh.cli.failures import told
from imagemesh.cli.output import json_option, print_message
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.moderation.v1 import (
    review_service_pb2,
    review_service_pb2_grpc,
)
from imagemesh.router.v1 import usage_service_pb2


@click.command()
@json_option
@click.pass_obj
def budget(session: Session, as_json: bool) -> None:
    """List the budgets (comes later)."""
    with session.client() as client, told():
        print_message(client.call(client.usage.ListBudgets, usage_service_pb2.ListBudgetsRequest()))


@click.command()
@json_option
@click.pass_obj
def reviews(session: Session, as_json: bool) -> None:
    """List what waits for a person's decision (comes later)."""
    with Client(*session.moderation()) as client, told():
        stub = client.stub(review_service_pb2_grpc.ReviewServiceStub)
        print_message(client.call(stub.ListReviews, review_service_pb2.ListReviewsRequest()))
