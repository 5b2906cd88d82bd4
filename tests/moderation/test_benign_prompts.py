"""What the rules alone make of the benign prompts that the heads are trained with: hardly anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Decision, Safety, Text, TextKind, judge

BENIGN = Path(__file__).parents[2] / "tools" / "train_moderation" / "data" / "train" / "benign"
STOPPED_AT_MOST = 0.01
FLAGGED_AT_MOST = 0.06


def prompts() -> list[str]:
    """Every prompt of the folder; a line beginning with # is a comment."""
    lines = (line.strip() for path in sorted(BENIGN.glob("*.txt")) for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def decisions(policy: Policy) -> Counter[Decision]:
    rules = RulesLayer(policy)

    def decided(text: str) -> Decision:
        return judge(rules.judge([(Text(0, TextKind.PROMPT, text), normalise(text))]), policy.rules, Safety()).decision

    return Counter(map(decided, prompts()))


def test_there_are_enough_of_them(decisions: Counter[Decision]) -> None:
    assert decisions.total() >= 1_000


def test_hardly_any_is_stopped(decisions: Counter[Decision]) -> None:
    stopped = decisions[Decision.REVIEW] + decisions[Decision.BLOCK]
    assert stopped / decisions.total() <= STOPPED_AT_MOST


def test_few_are_flagged(decisions: Counter[Decision]) -> None:
    """Most of those name a brand or an artist."""
    assert decisions[Decision.FLAG] / decisions.total() <= FLAGGED_AT_MOST
