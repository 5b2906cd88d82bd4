"""The other commands: tables for people, protobuf JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from imagemesh.cli.main import COMMANDS
from imagemesh.client import Client
from imagemesh.generation import Options, to_job_options, to_spec
from imagemesh.router.v1 import (
    api_key_service_pb2,
    catalog_service_pb2,
    job_pb2,
    job_service_pb2,
    usage_service_pb2,
)

from tests.client.conftest import Command
from tests.client.fake_mesh import FakeMesh


def test_the_contracts_commands_are_there(command: Command) -> None:
    promised = "up down status logs generate jobs watch cancel trace quote models providers usage budget keys reviews"
    assert {one.name for one in COMMANDS} == {*promised.split(), "audit", "doctor", "policies"}
    assert command("--help").exit_code == 0
    for one in COMMANDS:
        result = command(str(one.name), "--help")
        assert result.exit_code == 0
        assert "--json" in result.output or isinstance(one, click.Group) or one.name == "logs"


def test_jobs(command: Command, client: Client) -> None:
    made = [client.create(prompt).job_id for prompt in ("a", "b", "c")]
    result = command("jobs")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == [made[2], made[1]]
    assert "--page-token 2" in result.stderr
    assert made[0] in command("jobs", "--page-token", "2").stdout
    assert command("jobs", "--state", "failed").stdout == "nothing\n"
    assert command("jobs", "--state", "gone").exit_code == 2


def test_watch_follows_to_the_end(command: Command, client: Client) -> None:
    job_id = client.create("a").job_id
    result = command("watch", job_id)
    assert result.exit_code == 0
    assert "succeeded" in result.stdout
    assert "/a/job_" in result.stdout


@pytest.mark.parametrize(("prompt", "status"), [("a", 0), ("failed", 1), ("blocked", 3)])
def test_watch_ends_as_the_job_does(command: Command, client: Client, prompt: str, status: int) -> None:
    assert command("watch", client.create(prompt).job_id).exit_code == status


def test_watch_in_json_is_one_update_a_line(command: Command, client: Client) -> None:
    result = command("watch", client.create("a").job_id, "--json")
    updates = [json_format.Parse(line, job_service_pb2.WatchJobResponse()) for line in result.stdout.splitlines()]
    assert [update.WhichOneof("update") for update in updates] == ["job", "progress", "progress", "job"]


def test_cancel(command: Command, client: Client) -> None:
    job_id = client.create("hang").job_id
    assert f"canceled {job_id}" in command("cancel", job_id).stdout
    assert command("cancel", job_id).exit_code == 0


def test_cancel_after_the_end(command: Command, client: Client) -> None:
    job_id = client.generate("a").job_id
    result = command("cancel", job_id)
    assert result.exit_code == 1
    assert "[NOT_CANCELABLE]" in result.stderr


@pytest.mark.parametrize("name", ["watch", "cancel", "trace"])
def test_unknown_jobs(command: Command, name: str) -> None:
    result = command(name, "job_none")
    assert result.exit_code == 1
    assert "`imagemesh jobs` lists yours" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("models",), ["demo", "yes", "64×64", "speed", "0.0025 USD per image"]),
        (("models",), ["v1, v2 (5 % of tenants)", "MIT; commercial use", "2027-03-15 with imagemesh"]),
        (("providers",), ["imagemesh", "enabled", "demo: 4 calls, 0% failed, half took at most 1.5 s"]),
        (("providers",), ["main (eu, 2 units)", "eu, kept 1 days, trained on", "imagemesh:owner/*"]),
        (("providers", "check", "imagemesh"), ["main", "passed", "12.50 credits left"]),
        (("quote", "a circle"), ["imagemesh", "demo", "0.0025 USD", "1 image x 0.0025", "step", "a list, 2026-11-20"]),
        (("quote", "a circle", "--may-drop", "seed", "--may-drop", "size"), ["seed, size"]),
        (("usage",), ["all", "3", "4", "1.5 USD", "10 USD", "queued jobs", "2 of 100"]),
        (("usage", "--by", "model"), ["model", "demo"]),
    ],
)
def test_tables(command: Command, arguments: tuple[str, ...], words: list[str]) -> None:
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    for word in words:
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("models",), [catalog_service_pb2.ListModelsResponse]),
        (("providers",), [catalog_service_pb2.ListProvidersResponse]),
        (("providers", "check", "imagemesh"), [catalog_service_pb2.CheckProviderResponse]),
        (("quote", "a"), [catalog_service_pb2.QuoteResponse]),
        (("jobs",), [job_service_pb2.ListJobsResponse]),
        (("usage",), [usage_service_pb2.GetUsageResponse, usage_service_pb2.GetLimitsResponse]),
        (("keys", "list"), [api_key_service_pb2.ListApiKeysResponse]),
        (("keys", "create", "acme"), [api_key_service_pb2.CreateApiKeyResponse]),
    ],
)
def test_json_is_the_answers_message(
    command: Command, arguments: tuple[str, ...], messages: list[type[Message]]
) -> None:
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.output
    for line, message in zip(result.stdout.splitlines(), messages, strict=True):
        json_format.Parse(line, message())


def test_a_quote_that_is_too_dear(command: Command) -> None:
    assert command("quote", "a", "--max-cost", "0.000000001").exit_code == 4


def test_where_it_may_run_is_asked_for() -> None:
    options = Options(goal="best", strengths=["speed"], allow=["a"], deny=["b"], may_drop=["seed"])
    routing = job_pb2.Routing(goal=job_pb2.GOAL_BEST, strengths=["speed"], allow=["a"], deny=["b"], may_drop=["seed"])
    assert to_job_options(options).routing == routing
    assert not to_job_options(Options()).HasField("routing")
    with pytest.raises(ValueError, match="cheapest, fastest or best"):
        to_job_options(Options(goal="nicest"))


def test_an_edit_is_asked_for() -> None:
    spec = to_spec("darker", Options(images=[b"png", "https://x.example/a.png", "ast_1"], mask=b"mask", strength=0.5))
    assert spec.operation == job_pb2.OPERATION_EDIT
    assert [image.WhichOneof("source") for image in spec.images] == ["inline", "url", "asset_id"]
    assert (spec.mask.inline, spec.strength) == (b"mask", 0.5)
    larger = to_spec("", Options(operation="upscale", images=["ast_1"], upscale_factor=4))
    assert (larger.operation, larger.upscale_factor) == (job_pb2.OPERATION_UPSCALE, 4)
    wider = to_spec("sky", Options(operation="outpaint", images=["ast_1"], outpaint=(1, 2, 3, 4)))
    assert (wider.outpaint.left, wider.outpaint.bottom) == (1, 4)
    assert to_spec("a", Options()).operation == job_pb2.OPERATION_UNSPECIFIED
    guided = to_spec("a house", Options(controls=[("edges", b"png"), ("depth", "ast_1")], loras=[("neon", 0.5)]))
    assert guided.operation == job_pb2.OPERATION_CONTROL
    assert [(control.kind, control.image.WhichOneof("source")) for control in guided.controls] == [
        ("edges", "inline"),
        ("depth", "asset_id"),
    ]
    assert [(lora.lora_id, lora.scale) for lora in guided.loras] == [("neon", 0.5)]
    with pytest.raises(ValueError, match="operation is 'paint'; it may be text_to_image"):
        to_spec("a", Options(operation="paint"))


def test_the_command_reads_picture_files(command: Command, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")
    assert command("quote", "darker", "--image", str(picture), "--outpaint", "0", "8", "0", "8").exit_code == 0
    assert command("quote", "darker", "--image", str(tmp_path / "none.png")).exit_code == 2
    assert command("quote", "darker", "--operation", "paint").exit_code == 2
    assert (
        command("quote", "house", "--control", f"edges={picture}", "--lora", "neon", "--lora", "ink=-0.5").exit_code
        == 0
    )
    for wrong in (("--control", "edges"), ("--control", f"edges={tmp_path}/none"), ("--lora", "neon=much")):
        assert command("quote", "house", *wrong).exit_code == 2


def test_keys_live_and_end(command: Command) -> None:
    made = command("keys", "create", "acme", "--name", "shop", "--role", "caller", "--spend-cap", "5")
    assert "im_fresh  (not shown again)" in made.stdout
    assert "im_rotated" in command("keys", "rotate", "key_0", "--overlap", "60").stdout
    listed = command("keys", "list").stdout
    for word in ("key_0", "acme", "shop", "caller", "active", "5 USD"):
        assert word in listed
    assert "revoked key_0" in command("keys", "revoke", "key_0").stdout
    assert "revoked" in command("keys", "list").stdout
    assert command("keys", "rotate", "key_9").exit_code == 1
    assert command("keys", "create", "acme", "--spend-cap", "lots").exit_code == 2


def test_what_comes_later_says_so(command: Command) -> None:
    result = command("budget")
    assert result.exit_code == 2
    assert result.stderr == "imagemesh: ListBudgets belongs to a later version of the mesh [NOT_IMPLEMENTED]\n"


@pytest.mark.parametrize("arguments", [("jobs",), ("watch", "job_1"), ("models",), ("keys", "list"), ("reviews",)])
def test_without_a_mesh(command: Command, arguments: tuple[str, ...]) -> None:
    result = command(*arguments, IMAGEMESH_TARGET="")
    assert result.exit_code == 1
    assert "no mesh is up here; start one with `imagemesh up`" in result.stderr


def test_endpoints_that_nobody_answers_are_no_mesh(command: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    stale = {"router": "127.0.0.1:9", "moderation": "", "development_key_file": "k", "telemetry_dir": "t"}
    (home / "endpoints.json").write_text(json.dumps(stale))
    assert "no mesh is up here" in command("jobs", IMAGEMESH_TARGET="").stderr


def test_nobody_at_the_target(command: Command, mesh: FakeMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagemesh.calls.Retries.waits", lambda _: iter(()))
    result = command("jobs", IMAGEMESH_TARGET="127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr.startswith("imagemesh: 127.0.0.1:9 does not answer: `imagemesh status`")


def test_a_failed_check_is_told_by_the_exit_code(command: Command) -> None:
    result = command("providers", "check", "keyless")
    assert (result.exit_code, "failed" in result.stdout) == (1, True)
