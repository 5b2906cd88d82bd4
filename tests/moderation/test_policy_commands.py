"""`imagemesh policies` against a running service: what is stored is the file, and each step says what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from imagemesh.cli.main import cli

from services.moderation.config import DEFAULT_POLICY
from tests.moderation.running import Running

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
def command(moderation: Running, tmp_path: Path) -> Command:
    """Runs `imagemesh policies ARGUMENTS` as the operator."""
    target = f"127.0.0.1:{moderation.moderation.server.port}"
    base = ["--moderation-target", target, "--api-key", "operator", "--home", str(tmp_path / "home"), "policies"]

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, [*base, *arguments], prog_name="imagemesh")

    return run


THRESHOLDS = yaml.safe_load(DEFAULT_POLICY.read_text())["thresholds"]


def changed(folder: Path, **keys: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(DEFAULT_POLICY.read_text()) | keys, sort_keys=False))
    return str(path)


def last(result: Result) -> str:
    """The last line; before it may stand what the service logs, which shares our standard output."""
    return result.stdout.splitlines()[-1]


async def test_from_a_file_to_live_and_back(command: Command, moderation: Running, tmp_path: Path) -> None:
    await moderation.prompt("porn")
    stored = await command(
        "set", changed(tmp_path, review_decision="FLAG", thresholds={**THRESHOLDS, "SEXUAL": {"flag": 0.3}})
    )
    assert stored.stdout == "stored default version 1000 as a draft\n"
    told = await command("replay", "default", "1000")
    assert told.stdout.splitlines()[0] == "1 of 1 decisions would change"
    assert told.stdout.splitlines()[2].split()[1:] == ["block", "flag", "sexual"]
    for step, state in (("shadow", "shadow"), ("draft", "draft"), ("activate", "live")):
        assert last(await command(step, "default", "1000")) == f"default version 1000 is {state}"
    listed = (await command("list")).stdout.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [["default", "1000", "live"], ["default", "1", "archived"]]
    assert last(await command("archive", "default", "1000")) == "default version 1000 is archived"
    live = json.loads(last(await command("list", "--state", "live", "--json")))
    assert [policy["version"] for policy in live["policies"]] == ["1"]


async def test_show_prints_what_set_reads(command: Command, tmp_path: Path) -> None:
    first = await command("show")
    path = tmp_path / "shown.yaml"
    path.write_text(first.stdout)
    assert (await command("set", str(path))).exit_code == 0
    second = await command("show", "default", "--version", "1000")
    assert yaml.safe_load(second.stdout) | {"version": 1} == yaml.safe_load(first.stdout)
    own = yaml.safe_load(DEFAULT_POLICY.read_text())
    assert {key: yaml.safe_load(first.stdout)[key] for key in own} == own


MISTAKES = {
    "an unknown key": ({"treshold": {}}, "treshold: no such key"),
    "an unknown category": ({"thresholds": {"RUDE": {"flag": 0.3}}}, "thresholds:"),
    "an unknown tier": ({"thresholds": {"GORE": {"flagg": 0.3}}}, "flagg: no such key"),
    "a text for a number": ({"negative_prompt_weight": "much"}, "negative_prompt_weight:"),
    "no list": ({"languages": "en"}, "languages: must be a list"),
    "below the floor": (
        {"thresholds": {**THRESHOLDS, "SEXUAL_MINORS": {"review": 0.3, "block": 0.9}}},
        "policy.thresholds[1].block",
    ),
    "an unknown word": ({"failure_mode": "AJAR"}, "failure_mode:"),
}


@pytest.mark.parametrize(("keys", "told"), MISTAKES.values(), ids=MISTAKES)
async def test_mistakes_are_told_in_one_line(
    command: Command, tmp_path: Path, keys: dict[str, object], told: str
) -> None:
    result = await command("set", changed(tmp_path, **keys))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


async def test_versions_that_are_not_there(command: Command, tmp_path: Path) -> None:
    assert "POLICY_NOT_FOUND" in (await command("activate", "default", "77")).stderr
    assert "POLICY_NOT_FOUND" in (await command("show", "nobodys")).stderr
    assert (await command("set", str(tmp_path / "nowhere.yaml"))).exit_code == 2
    assert "STALE_EPOCH" in (await command("set", changed(tmp_path), "--etag", "old")).stderr
