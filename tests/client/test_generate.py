"""generate: files, words, exit statuses; Ctrl-C and a kill on the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from imagemesh.cli.spans import read_trace
from imagemesh.router.v1 import job_pb2

from tests.client.conftest import Command
from tests.client.fake_mesh import KEY, FakeMesh, Refusal, png, wait_for


def test_the_picture_lies_where_it_was_asked_for(command: Command, tmp_path: Path) -> None:
    result = command("generate", "a circle", "-o", "circle.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "circle.png").read_bytes() == png(0)
    assert "circle.png  2×2 png, seed 7" in result.stdout
    assert "0.0025 USD" in result.stdout
    assert "imagemesh trace job_" in result.stdout


def test_without_a_name_the_job_gives_it(command: Command, tmp_path: Path) -> None:
    assert command("generate", "a circle").exit_code == 0
    assert [path.name for path in tmp_path.glob("*.png")] == [f"job_{1:026d}.png"]


def test_several_pictures_are_numbered(command: Command, tmp_path: Path) -> None:
    assert command("generate", "a circle", "--count", "3", "-o", "c.png").exit_code == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["c-0.png", "c-1.png", "c-2.png"]
    assert (tmp_path / "c-2.png").read_bytes() == png(32)


def test_refused_pictures_are_told(command: Command, tmp_path: Path) -> None:
    result = command("generate", "half", "--count", "2", "-o", "c.png")
    assert result.exit_code == 0
    assert "1 of 2 pictures were refused" in result.stderr
    assert [path.name for path in tmp_path.glob("*.png")] == ["c-1.png"]


def test_a_review_is_told_once_while_it_waits(command: Command) -> None:
    result = command("generate", "borderline", "-o", "c.png")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("waits for a person") == 1
    assert "`imagemesh reviews next`" in result.stderr


def test_the_cache_is_told(command: Command) -> None:
    result = command("generate", "cached", "--seed", "7")
    assert "0 USD, served from the cache" in result.stdout


def test_json_is_the_job(command: Command) -> None:
    result = command("generate", "a circle", "--json", "-o", "c.png")
    document = json.loads(result.stdout)
    assert document["state"] == "JOB_STATE_SUCCEEDED"
    assert document["cost"] == {"currencyCode": "USD", "nanos": 2_500_000}
    assert result.stderr == "c.png\n"


def test_every_option_reaches_the_spec(command: Command, mesh: FakeMesh) -> None:
    wishes = "--model demo --size 64x32 --count 2 --seed 5 --steps 4 --guidance 1.5 --scheduler euler --negative rain"
    assert command("generate", "sun", *wishes.split()).exit_code == 0
    spec = next(iter(mesh.jobs.values())).spec
    assert (spec.model, spec.size.width, spec.size.height, spec.count, spec.seed) == ("demo", 64, 32, 2, 5)
    assert (spec.steps, spec.guidance, spec.scheduler, spec.negative_prompt) == (4, 1.5, "euler", "rain")


BUDGET = Refusal("RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED", "the price does not fit the budget")
RATE = Refusal("RESOURCE_EXHAUSTED", "RATE_LIMITED", "too many calls", retry_after=9)
NO_MODEL = Refusal("NOT_FOUND", "MODEL_NOT_FOUND", "no model 'dmeo'; nearest: demo")


@pytest.mark.parametrize(
    ("prompt", "refusal", "status", "words"),
    [
        ("blocked", None, 3, "moderation refused it [MODERATION_BLOCKED]"),
        ("failed", None, 1, "every candidate failed [ALL_CANDIDATES_FAILED]: `imagemesh providers`"),
        ("late", None, 1, "the deadline passed [DEADLINE_EXCEEDED]: give it a longer --timeout"),
        ("unknown", None, 1, "[ATTEMPT_OUTCOME_UNKNOWN]"),
        ("corrupt", None, 1, "not the ones the job names"),
        ("", None, 2, "spec.prompt: must have 1 to 32,000 characters [INVALID_FIELD]"),
        ("x", BUDGET, 4, "[BUDGET_EXCEEDED]: `imagemesh usage` shows what is left"),
        ("x", RATE, 4, "too many calls [RATE_LIMITED]: try again in 9 s"),
        ("x", Refusal("FAILED_PRECONDITION", "MAX_COST_EXCEEDED", "too dear"), 4, "[MAX_COST_EXCEEDED]"),
        ("x", NO_MODEL, 2, "nearest: demo [MODEL_NOT_FOUND]"),
        ("x", Refusal("UNIMPLEMENTED", "NOT_IMPLEMENTED", "style is for later"), 2, "style is for later"),
        ("x", Refusal("PERMISSION_DENIED", "MODEL_NOT_ALLOWED", "not with this key"), 1, "[MODEL_NOT_ALLOWED]"),
        ("x", Refusal("INTERNAL", "INTERNAL", "a fault"), 1, "`imagemesh logs` says more"),
    ],
)
def test_exit_statuses(
    command: Command, mesh: FakeMesh, prompt: str, refusal: Refusal | None, status: int, words: str
) -> None:
    if refusal:
        mesh.refusals[prompt] = refusal
    result = command("generate", prompt)
    assert result.exit_code == status, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "wrong",
    [
        ("--size", "big"),
        ("--seed", "-1"),
        ("--cache", "never"),
        ("--max-cost", "much"),
        ("--timeout", "0"),
        ("-o", "no/such/folder/c.png"),
        ("--no-such-option",),
    ],
)
def test_usage_errors_spend_nothing(command: Command, mesh: FakeMesh, wrong: tuple[str, ...]) -> None:
    result = command("generate", "a circle", *wrong)
    assert result.exit_code == 2
    assert mesh.jobs == {}


def test_a_blocked_job_in_json(command: Command) -> None:
    result = command("generate", "blocked", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["message"] == "moderation refused it"


def test_a_wrong_key_says_what_to_do(command: Command) -> None:
    result = command("generate", "a circle", IMAGEMESH_API_KEY="other")
    assert result.exit_code == 1
    assert "[KEY_INVALID]: check --api-key or IMAGEMESH_API_KEY" in result.stderr


def test_the_trace_begins_with_the_command(command: Command, mesh: FakeMesh, tmp_path: Path) -> None:
    """Against the local mesh of a home, the command adds its own span to the mesh's files."""
    home = tmp_path / "home"
    (home / "telemetry").mkdir(parents=True)
    (home / "key").write_text(KEY)
    endpoints = {
        "router": mesh.target,
        "moderation": mesh.target,
        "development_key_file": str(home / "key"),
        "telemetry_dir": str(home / "telemetry"),
    }
    (home / "endpoints.json").write_text(json.dumps(endpoints))
    assert command("generate", "a circle", IMAGEMESH_TARGET="", IMAGEMESH_API_KEY="").exit_code == 0
    version, trace_id, span_id, flags = mesh.traceparents[0].split("-")
    assert (version, flags) == ("00", "01")
    (span,) = read_trace(home / "telemetry", trace_id)
    assert (span.span_id, span.parent_id, span.service, span.failed) == (span_id, "", "command", False)
    assert span.end_ns is not None
    assert span.attributes["imagemesh.job_id"] in mesh.jobs


@contextmanager
def running(mesh: FakeMesh, folder: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "IMAGEMESH_TARGET": mesh.target, "IMAGEMESH_API_KEY": KEY}
    command = [sys.executable, "-m", "imagemesh.cli.main", "generate", "hang"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            wait_for(lambda: bool(mesh.jobs), 20)
            yield process
        finally:
            process.kill()


def test_ctrl_c_cancels_the_job_and_says_so(mesh: FakeMesh, tmp_path: Path) -> None:
    with running(mesh, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    (job,) = mesh.jobs.values()
    assert job.state == job_pb2.JOB_STATE_CANCELED
    assert mesh.canceled == [job.job_id]
    assert f"canceled {job.job_id}: nothing was published or charged" in said
    assert "Traceback" not in said
    assert process.returncode == 1


def test_a_killed_command_leaves_the_job_running(mesh: FakeMesh, tmp_path: Path) -> None:
    with running(mesh, tmp_path) as process:
        process.kill()
        process.communicate(timeout=20)
    (job,) = mesh.jobs.values()
    assert job.state == job_pb2.JOB_STATE_QUEUED
    assert mesh.canceled == []
    with mesh.changed:
        mesh.end(job)
