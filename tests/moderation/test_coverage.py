"""What no layer could judge: it is told, and a policy may send it to people or refuse it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from imagemesh.moderation.v1 import policy_pb2, verdict_pb2

from services.moderation import coverage
from services.moderation.config import DEFAULT_POLICY
from services.moderation.policies import Policy
from services.moderation.replay import Past, rescored
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import (
    Category,
    Decision,
    Finding,
    Safety,
    SafetyLevel,
    Subject,
    SubjectKind,
    Verdict,
    judge,
)
from tests.moderation.pictures import encode, scene
from tests.moderation.running import running


def minding(policy: Policy, **unevaluated: str) -> Policy:
    """The policy that also minds these categories where nobody judged them."""
    thresholds = {
        category: limits.model_copy(update={"unevaluated": unevaluated.get(category, limits.unevaluated)})
        for category, limits in policy.document.thresholds.items()
    }
    return policy.model_copy(update={"document": policy.document.model_copy(update={"thresholds": thresholds})})


@pytest.mark.parametrize("decision", [Decision.FLAG, Decision.REVIEW, Decision.BLOCK])
def test_the_policy_decides(decision: Decision, policy: Policy) -> None:
    wanted = minding(policy, GORE=decision.name)
    judgement = judge(coverage.findings([Category.GORE, Category.PII], wanted), wanted.rules, Safety())
    assert judgement.decision is decision
    assert judgement.layer == coverage.LAYER
    assert [(score.category, score.score) for score in judgement.scores] == [(Category.GORE, 0.0)]


def test_what_was_judged_is_not_minded(policy: Policy) -> None:
    assert coverage.findings([Category.HATE], minding(policy, GORE="BLOCK")) == []


@pytest.mark.parametrize(
    ("level", "decision"),
    [
        (SafetyLevel.AS_POLICY, Decision.REVIEW),
        (SafetyLevel.STRICT, Decision.BLOCK),
        (SafetyLevel.STRICTEST, Decision.BLOCK),
    ],
)
def test_a_callers_wish_tightens_it(level: SafetyLevel, decision: Decision, policy: Policy) -> None:
    wanted = minding(policy, GORE="REVIEW")
    assert judge(coverage.findings([Category.GORE], wanted), wanted.rules, Safety(level)).decision is decision


def test_a_score_that_blocks_is_not_hidden_by_it(policy: Policy) -> None:
    wanted = minding(policy, GORE="REVIEW")
    seen = Finding("rules", Category.GORE, 0.95, "list/term", "1")
    judgement = judge([*coverage.findings([Category.GORE], wanted), seen], wanted.rules, Safety())
    assert judgement.decision is Decision.BLOCK
    assert judgement.scores[0].score == 0.95
    assert judgement.layer == "rules"


@pytest.mark.parametrize(("before", "after"), [("ALLOW", "BLOCK"), ("BLOCK", "ALLOW"), ("REVIEW", "BLOCK")])
def test_replay_counts_it_anew(before: str, after: str, policy: Policy) -> None:
    old, new = minding(policy, GORE=before), minding(policy, GORE=after)
    judgement = judge(coverage.findings([Category.GORE], old), old.rules, Safety())
    subject = Subject(SubjectKind.IMAGE, "acme", "ab" * 32, 10)
    past = Past(Verdict("vrd_1", subject, judgement, "default", 1, (Category.GORE,)), old)
    assert rescored(past, new, RulesLayer(new)).decision is Decision[after]


async def test_pictures_that_nobody_can_judge_are_refused_where_the_policy_says_so(tmp_path: Path) -> None:
    document = yaml.safe_load(DEFAULT_POLICY.read_text())
    document["thresholds"]["VIOLENCE"]["unevaluated"] = "REVIEW"
    document["review_decision"] = "REVIEW"
    path = tmp_path / "policies" / "default.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document))
    async with running(f"sqlite:///{tmp_path / 'moderation.db'}", path) as moderation:
        verdict = await moderation.image(encode(scene(1)))
        assert verdict.decision == verdict_pb2.DECISION_REVIEW
        assert verdict.layer == coverage.LAYER
        assert [score.category for score in verdict.scores] == [verdict_pb2.CATEGORY_VIOLENCE]
        assert verdict_pb2.CATEGORY_VIOLENCE in verdict.not_evaluated
        strict = policy_pb2.Safety(level=policy_pb2.SAFETY_LEVEL_STRICT)
        assert (await moderation.prompt("a red boat", safety=strict)).decision == verdict_pb2.DECISION_ALLOW
