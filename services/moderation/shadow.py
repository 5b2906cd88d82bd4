"""What versions in shadow would have decided: the classifiers' scores as they are, only lists and thresholds anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from services.moderation import coverage, language
from services.moderation.combining import combine
from services.moderation.layers import Outcome
from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Judgement, Safety, Text, judge

INLINE_CHARACTERS = 2_000  # about a millisecond of work


@dataclass(frozen=True)
class ShadowVerdict:
    """What a version in shadow would have decided."""

    policy_id: str
    policy_version: int
    judgement: Judgement


class Shadows:
    """Applies versions in shadow to texts that were judged. Safe for many calls at once."""

    def __init__(self, rules: RuleShelf, pool: ThreadPoolExecutor) -> None:
        self._rules = rules
        self._pool = pool

    async def of_texts(
        self, texts: Sequence[Text], outcome: Outcome, policies: Sequence[Policy], safety: Safety
    ) -> tuple[ShadowVerdict, ...]:
        """The decision of each of the policies over the texts and over what the classifiers found in them."""
        return tuple([await self._one(texts, outcome, policy, safety) for policy in policies])

    async def _one(self, texts: Sequence[Text], outcome: Outcome, policy: Policy, safety: Safety) -> ShadowVerdict:
        rules = await self._rules.layer(policy)
        if sum(len(text.text) for text in texts) <= INLINE_CHARACTERS:
            return _shadow(texts, outcome, (policy, rules), safety)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _shadow, texts, outcome, (policy, rules), safety)


def _shadow(texts: Sequence[Text], outcome: Outcome, under: tuple[Policy, RulesLayer], safety: Safety) -> ShadowVerdict:
    policy, rules = under
    clues = rules.read([(text, normalise(text.text)) for text in texts])
    findings = combine(clues, outcome.scored, policy.document.negative_prompt_weight)
    gate = [finding for finding in outcome.findings if finding.layer == language.LAYER]
    findings += [kept for kept in (language.counted(finding, policy) for finding in gate) if kept is not None]
    findings += coverage.findings(outcome.not_evaluated, policy)
    return ShadowVerdict(policy.policy_id, policy.version, judge(findings, policy.rules, safety))


def of_image(outcome: Outcome, policies: Sequence[Policy], safety: Safety) -> tuple[ShadowVerdict, ...]:
    """The decision of each of the policies over the findings as they are; another hash distance is not looked at."""
    return tuple(_shadow_of_image(outcome, policy, safety) for policy in policies)


def _shadow_of_image(outcome: Outcome, policy: Policy, safety: Safety) -> ShadowVerdict:
    findings = (*outcome.findings, *coverage.findings(outcome.not_evaluated, policy))
    return ShadowVerdict(policy.policy_id, policy.version, judge(findings, policy.rules, safety))
