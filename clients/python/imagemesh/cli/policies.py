"""policies list, show, set, activate, shadow, draft, archive, replay. Changes need a key with the role OPERATOR."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from imagemesh.cli.failures import Failure, told
from imagemesh.cli.output import json_option, moment, note, plain, print_message, show, table
from imagemesh.cli.policy_documents import read_policy, write_policy
from imagemesh.cli.session import Session
from imagemesh.client import Client
from imagemesh.moderation.v1 import moderation_service_pb2 as pb2
from imagemesh.moderation.v1 import moderation_service_pb2_grpc, policy_pb2, verdict_pb2

STATES = ["live", "shadow", "draft", "archived"]
PAGE = 200
DAY_SECONDS = 86_400
SHOWN = 100  # differences

Stub = moderation_service_pb2_grpc.ModerationServiceStub


@click.group()
def policies() -> None:
    """Read and change what moderation minds; try a change before it decides."""


@policies.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only versions in this state.")
@json_option
@click.pass_obj
def list_policies(session: Session, state: str | None, as_json: bool) -> None:
    """List the versions of all policies, newest first."""
    with _mesh(session) as (client, stub):
        found = list(_all(client, stub, _state(state) if state else policy_pb2.POLICY_STATE_UNSPECIFIED))
    if as_json:
        print_message(pb2.ListPoliciesResponse(policies=found))
        return
    rows = [
        (one.policy_id, str(one.version), _named(one), one.tenant or "all", moment(one.create_time) or "file", one.etag)
        for one in found
    ]
    show(table("policy", "version", "state", "tenant", "stored", "etag", rows=rows))


@policies.command("show")
@click.argument("policy_id", metavar="[POLICY]", default="")
@click.option("--version", type=click.IntRange(min=0), default=0, help="Default: the live one.")
@json_option
@click.pass_obj
def show_policy(session: Session, policy_id: str, version: int, as_json: bool) -> None:
    """Print POLICY (default: the one that applies to you) as the YAML that `set` reads."""
    with _mesh(session) as (client, stub):
        answer = client.call(stub.GetPolicy, pb2.GetPolicyRequest(policy_id=policy_id, version=version))
    if as_json:
        print_message(answer)
    else:
        click.echo(write_policy(answer.policy), nl=False)


@policies.command("set")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--etag", default="", help="The newest version's, to be sure that nobody was faster.")
@json_option
@click.pass_obj
def set_policy(session: Session, file: Path, etag: str, as_json: bool) -> None:
    """Store the YAML document in FILE as the next version of its policy, a draft."""
    policy = read_policy(file)
    with _mesh(session) as (client, stub):
        request = pb2.SetPolicyRequest(policy=policy, etag=etag or _newest_etag(client, stub, policy.policy_id))
        answer = client.call(stub.SetPolicy, request, repeatable=False)
    if as_json:
        print_message(answer)
        return
    stored = answer.policy
    click.echo(f"stored {stored.policy_id} version {stored.version} as a draft")
    note(f"imagemesh policies replay {stored.policy_id} {stored.version} tells what it would change")


def _changing(name: str, state: policy_pb2.PolicyState.ValueType, text: str) -> None:
    @policies.command(name, help=text)
    @click.argument("policy_id", metavar="POLICY")
    @click.argument("version", type=click.IntRange(min=1))
    @json_option
    @click.pass_obj
    def change(session: Session, policy_id: str, version: int, as_json: bool) -> None:
        with _mesh(session) as (client, stub):
            read = client.call(stub.GetPolicy, pb2.GetPolicyRequest(policy_id=policy_id, version=version)).policy
            request = pb2.SetPolicyStateRequest(policy_id=policy_id, version=version, state=state, etag=read.etag)
            answer = client.call(stub.SetPolicyState, request, repeatable=False)
        if as_json:
            print_message(answer)
        else:
            click.echo(f"{policy_id} version {version} is {_named(answer.policy)}")


_changing("activate", policy_pb2.POLICY_STATE_LIVE, "Make VERSION of POLICY live; the one before is archived.")
_changing("shadow", policy_pb2.POLICY_STATE_SHADOW, "Apply VERSION of POLICY beside the live one; it decides nothing.")
_changing("draft", policy_pb2.POLICY_STATE_DRAFT, "Make VERSION of POLICY a draft again.")
_changing("archive", policy_pb2.POLICY_STATE_ARCHIVED, "Archive VERSION of POLICY.")


@policies.command()
@click.argument("policy_id", metavar="POLICY")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--days", type=click.FloatRange(min=0, min_open=True), default=7.0, show_default=True, help="How far back."
)
@json_option
@click.pass_obj
def replay(session: Session, policy_id: str, version: int, days: float, as_json: bool) -> None:
    """Score past decisions under VERSION of POLICY; thresholds and weights, not terms that are new."""
    request = pb2.ReplayPolicyRequest(policy_id=policy_id, version=version, page_size=PAGE)
    request.from_time.FromSeconds(int(time.time() - days * DAY_SECONDS))
    total = pb2.ReplayPolicyResponse()
    with _mesh(session) as (client, stub):
        while True:
            page = client.call(stub.ReplayPolicy, request)
            total.scored += page.scored
            total.changed += page.changed
            total.differences.extend(page.differences[: SHOWN - len(total.differences)])
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    _show_replay(total, as_json)


def _show_replay(total: pb2.ReplayPolicyResponse, as_json: bool) -> None:
    if as_json:
        print_message(total)
        return
    click.echo(f"{total.changed} of {total.scored} decisions would change")
    if total.differences:
        rows = [
            (one.verdict_id, _decision(one.before), _decision(one.after), _category(one)) for one in total.differences
        ]
        show(table("verdict", "was", "would be", "category", rows=rows))


@contextmanager
def _mesh(session: Session) -> Iterator[tuple[Client, Stub]]:
    with Client(*session.moderation()) as client, told():
        yield client, client.stub(Stub)


def _all(client: Client, stub: Stub, state: policy_pb2.PolicyState.ValueType) -> Iterator[policy_pb2.Policy]:
    token = ""
    while True:
        request = pb2.ListPoliciesRequest(state=state, page_size=PAGE, page_token=token)
        answer = client.call(stub.ListPolicies, request)
        yield from answer.policies
        token = answer.next_page_token
        if not token:
            return


def _newest_etag(client: Client, stub: Stub, policy_id: str) -> str:
    """Of the policy's newest version; empty for a policy that is new."""
    if not policy_id:
        raise Failure("the document has no `policy`")
    found = _all(client, stub, policy_pb2.POLICY_STATE_UNSPECIFIED)
    return next((one.etag for one in found if one.policy_id == policy_id), "")


def _state(name: str) -> policy_pb2.PolicyState.ValueType:
    return policy_pb2.PolicyState.Value(f"POLICY_STATE_{name.upper()}")


def _named(policy: policy_pb2.Policy) -> str:
    return plain(policy_pb2.PolicyState.Name(policy.state), "POLICY_STATE_")


def _decision(decision: verdict_pb2.Decision.ValueType) -> str:
    return plain(verdict_pb2.Decision.Name(decision), "DECISION_")


def _category(difference: policy_pb2.PolicyDifference) -> str:
    return plain(verdict_pb2.Category.Name(difference.category), "CATEGORY_")
