"""`imagemesh reviews` against a running service: what waits is listed, claimed, decided."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from imagemesh.cli import reviews as module
from imagemesh.cli.main import cli

from tests.moderation.people_rig import ALLOW, BLOCK, BORDERLINE, People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
async def people(moderation: Running) -> People:
    rig = People(moderation)
    await rig.reviewing()
    return rig


@pytest.fixture
def command(moderation: Running, tmp_path: Path) -> Command:
    """Runs `imagemesh reviews ARGUMENTS` as a key with every role."""
    target = f"127.0.0.1:{moderation.moderation.server.port}"
    base = ["--moderation-target", target, "--api-key", "all roles", "--home", str(tmp_path / "home"), "reviews"]

    async def run(*arguments: str, typed: str = "") -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli, [*base, *arguments], input=typed, prog_name="imagemesh")

    return run


def last(result: Result) -> str:
    """The last line; before it may stand what the service logs, which shares our standard output."""
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


async def test_a_review_is_listed_claimed_shown_and_decided(people: People, command: Command) -> None:
    await people.service.prompt(BORDERLINE, job_id="job_1")
    (waiting,) = json.loads(last(await command("list", "--json")))["reviews"]
    assert waiting["reviewId"] in (await command()).stdout
    claimed = (await command("claim")).stdout
    assert BORDERLINE in claimed
    shown = (await command("show", waiting["reviewId"])).stdout
    assert waiting["reviewId"] in shown
    assert BORDERLINE not in shown
    refused = await command("decide", waiting["reviewId"], "block")
    assert (refused.exit_code, "--reason" in refused.output) == (2, True)
    assert last(await command("decide", waiting["reviewId"], "allow", "--note", "art")).endswith(": allow")
    assert "art" in (await command("show", waiting["reviewId"])).stdout
    assert (await people.service.prompt(BORDERLINE, job_id="job_1")).decision == ALLOW
    assert "nothing waits for a person" in (await command("list")).stdout


async def test_the_queue_is_worked_through(people: People, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "asked", lambda: True)
    for number in (1, 2, 3):
        await people.service.prompt(f"{BORDERLINE} {number}", job_id="job_1")
    result = await command("next", typed="allow\n\nskip\nblock\nSEXUAL\ntoo much\n")
    assert result.exit_code == 0, result.output
    assert "nothing waits for a person" in result.stdout
    verdicts = [(await people.service.prompt(f"{BORDERLINE} {n}", job_id="job_1")).decision for n in (1, 3)]
    assert verdicts == [ALLOW, BLOCK]
    assert len(await people.queue()) == 1
    assert (await people.queue())[0].reviewer == ""


async def test_who_breaks_off_leaves_nothing_claimed(
    people: People, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "asked", lambda: True)
    for number in (1, 2):
        await people.service.prompt(f"{BORDERLINE} {number}", job_id="job_1")
    assert (await command("next", typed="skip\n")).exit_code == 1  # the end of what is typed
    assert [review.reviewer for review in await people.queue()] == ["", ""]


async def test_nobody_to_ask(command: Command) -> None:
    assert (await command("next")).exit_code == 2


async def test_a_picture_is_taken_down_and_restored(people: People, command: Command) -> None:
    people.service.assets.put("ast_1", encode(scene(1)))
    await people.report("ast_1")
    assert "ast_1" in (await command("reports")).stdout
    taken = json.loads(last(await command("takedown", "ast_1", "--reason", "gore", "--legal-hold", "--json")))
    assert taken["takedown"]["legalHold"]
    assert last(await command("restore", taken["takedown"]["takedownId"], "--note", "oops")) == "restored ast_1"
    assert last(await command("hold", "ast_1", "--end", "--note", "over")) == "ast_1: not held"


async def test_appeals_and_strikes(people: People, command: Command) -> None:
    verdict = await people.service.prompt("a nude child, explicit", user="ann")
    assert verdict.decision == BLOCK
    appeal = await people.appeal(verdict.verdict_id)
    assert "museum" in (await command("appeals")).stdout
    assert "ann" in (await command("strikes")).stdout
    assert last(await command("settle", appeal.appeal_id, "deny", "--answer", "no")).endswith(": denied")
    assert last(await command("clear-strikes", "acme", "ann")) == "cleared 1"
