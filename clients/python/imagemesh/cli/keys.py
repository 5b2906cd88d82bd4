"""keys create, list, rotate, revoke. They need a key with the role OPERATOR, as the development key has."""

from __future__ import annotations

import click

from imagemesh.cli.failures import told
from imagemesh.cli.output import facts, json_option, moment, money, plain, print_message, show, table
from imagemesh.cli.session import Session
from imagemesh.generation import to_duration, to_money
from imagemesh.router.v1 import api_key_pb2, api_key_service_pb2
from imagemesh.type.v1 import access_pb2

ROLES = ["caller", "operator", "reviewer"]


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.argument("tenant")
@click.option("--name", default="", help="What people call it.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=["caller"], show_default=True)
@click.option("--model", "models", multiple=True, help="Only these models; may be given repeatedly.")
@click.option("--spend-cap", default="", metavar="AMOUNT", help="All it may ever spend: 5 or '5 EUR'.")
@json_option
@click.pass_context
def create(context: click.Context, /, as_json: bool, **given: object) -> None:
    """Make a key for TENANT; its secret is shown this once."""
    request = _create_request(context)
    with context.obj.client() as client, told():
        answer = client.call(client.keys.CreateApiKey, request, repeatable=False)
    _show_secret(answer, as_json)


@keys.command("list")
@click.option("--tenant", default="", help="Only of this tenant.")
@json_option
@click.pass_obj
def list_keys(session: Session, tenant: str, as_json: bool) -> None:
    """List keys, newest first."""
    request = api_key_service_pb2.ListApiKeysRequest(tenant=tenant, page_size=200)
    with session.client() as client, told():
        answer = client.call(client.keys.ListApiKeys, request)
    if as_json:
        print_message(answer)
        return
    rows = [_row(key) for key in answer.api_keys]
    show(table("key", "tenant", "name", "roles", "state", "created", "cap", rows=rows))


@keys.command()
@click.argument("key_id", metavar="KEY")
@click.option("--overlap", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="The old secret's rest.")
@json_option
@click.pass_obj
def rotate(session: Session, key_id: str, overlap: float, as_json: bool) -> None:
    """Give KEY a new secret."""
    request = api_key_service_pb2.RotateApiKeyRequest(key_id=key_id, overlap=to_duration(overlap))
    with session.client() as client, told():
        answer = client.call(client.keys.RotateApiKey, request, repeatable=False)
    _show_secret(answer, as_json)


@keys.command()
@click.argument("key_id", metavar="KEY")
@json_option
@click.pass_obj
def revoke(session: Session, key_id: str, as_json: bool) -> None:
    """End KEY for good."""
    with session.client() as client, told():
        answer = client.call(client.keys.RevokeApiKey, api_key_service_pb2.RevokeApiKeyRequest(key_id=key_id))
    if as_json:
        print_message(answer)
    else:
        click.echo(f"revoked {key_id}; every service refuses it within 30 seconds")


def _create_request(context: click.Context) -> api_key_service_pb2.CreateApiKeyRequest:
    given = context.params
    request = api_key_service_pb2.CreateApiKeyRequest(
        tenant=given["tenant"],
        display_name=given["name"],
        roles=[access_pb2.Role.Value(f"ROLE_{role.upper()}") for role in given["roles"]],
        models=given["models"],
    )
    if given["spend_cap"]:
        try:
            request.spend_cap.CopyFrom(to_money(given["spend_cap"]))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    return request


def _show_secret(
    answer: api_key_service_pb2.CreateApiKeyResponse | api_key_service_pb2.RotateApiKeyResponse, as_json: bool
) -> None:
    if as_json:
        print_message(answer)
        return
    show(facts(("key", answer.api_key.key_id), ("secret", f"{answer.secret}  (not shown again)")))


def _row(key: api_key_pb2.ApiKey) -> tuple[str, ...]:
    return (
        key.key_id,
        key.tenant,
        key.display_name,
        ", ".join(plain(access_pb2.Role.Name(role), "ROLE_") for role in key.roles),
        plain(api_key_pb2.ApiKeyState.Name(key.state), "API_KEY_STATE_"),
        moment(key.create_time),
        money(key.spend_cap),
    )
