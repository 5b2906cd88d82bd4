"""How texts are judged: normalise, rules, classifiers; in this order, every layer always.

Short texts are judged where the call runs; long ones in a pool of threads, so that one caller's 32,000 characters do
not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.moderation.classifiers.base import TextClassifier
from services.moderation.layers import Outcome, classify, outcome
from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Finding, Text

INLINE_CHARACTERS = 2_000  # about a millisecond of work


class TextPipeline:
    """Judges texts under any policy. Made once a process; safe for many calls at once."""

    def __init__(self, rules: RuleShelf, classifiers: Sequence[TextClassifier], pool: ThreadPoolExecutor) -> None:
        self._rules = rules
        self._classifiers = tuple(classifiers)
        self._pool = pool

    async def judge(self, texts: Sequence[Text], policy: Policy) -> Outcome:
        """What all layers find in the texts under the policy."""
        rules = await self._rules.layer(policy)
        if sum(len(text.text) for text in texts) <= INLINE_CHARACTERS:
            found = _normalise_and_match(rules, texts)
        else:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._pool, _normalise_and_match, rules, texts)
        if not self._classifiers:
            return outcome(found, (rules.categories,))
        scored = await classify(self._classifiers, policy, lambda classifier: classifier.judge(texts))
        classified = [finding for _, more in scored for finding in more]
        covered = (rules.categories, *(categories for categories, _ in scored))
        return outcome([*found, *classified], covered, classified)


def _normalise_and_match(rules: RulesLayer, texts: Sequence[Text]) -> list[Finding]:
    return rules.judge([(text, normalise(text.text)) for text in texts])
