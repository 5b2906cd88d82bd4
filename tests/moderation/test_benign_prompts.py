"""What the rules alone make of the benign prompts that the heads are trained with: hardly anything."""

from __future__ import annotations

from collections import Counter

import pytest

from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Decision, Safety, Text, TextKind, judge
from tools.train_moderation.corpus import BORDER, read

STOPPED_AT_MOST = 0.01
STOPPED_AT_THE_BORDER = 0.05  # of those that were written to resemble harmful ones, "what is the sentence for arson"
FLAGGED_AT_MOST = 0.06


def prompts(border: bool) -> list[str]:
    """The benign ones that were written to resemble harmful ones, or all others."""
    benign = [prompt for prompt in read("train") if prompt.category is None]
    return [prompt.text for prompt in benign if prompt.kind.startswith(BORDER) == border]


def decided(policy: Policy, texts: list[str]) -> Counter[Decision]:
    rules = RulesLayer(policy)
    read = (rules.judge([(Text(0, TextKind.PROMPT, text), normalise(text))]) for text in texts)
    return Counter(judge(findings, policy.rules, Safety()).decision for findings in read)


@pytest.fixture(scope="module")
def decisions(policy: Policy) -> Counter[Decision]:
    return decided(policy, prompts(border=False))


@pytest.fixture(scope="module")
def at_the_border(policy: Policy) -> Counter[Decision]:
    return decided(policy, prompts(border=True))


def stopped(decisions: Counter[Decision]) -> float:
    return (decisions[Decision.REVIEW] + decisions[Decision.BLOCK]) / decisions.total()


def test_there_are_enough_of_them(decisions: Counter[Decision]) -> None:
    assert decisions.total() >= 1_000


def test_hardly_any_is_stopped(decisions: Counter[Decision]) -> None:
    assert stopped(decisions) <= STOPPED_AT_MOST


def test_few_are_stopped_at_the_border(at_the_border: Counter[Decision]) -> None:
    assert at_the_border.total() >= 1_000
    assert stopped(at_the_border) <= STOPPED_AT_THE_BORDER


def test_few_are_flagged(decisions: Counter[Decision]) -> None:
    """Most of those name a brand or an artist."""
    assert decisions[Decision.FLAG] / decisions.total() <= FLAGGED_AT_MOST
