"""How texts are judged: normalise, rules, classifiers, then all of it together; every layer always.

Short texts are judged where the call runs; long ones in a pool of threads, so that one caller's 32,000 characters do
not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from services.moderation.classifiers.base import TextClassifier
from services.moderation.clues import Clues
from services.moderation.combining import combine
from services.moderation.layers import Outcome, classify, outcome
from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Text

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
            clues = _normalise_and_read(rules, texts)
        else:
            loop = asyncio.get_running_loop()
            clues = await loop.run_in_executor(self._pool, _normalise_and_read, rules, texts)
        if not self._classifiers:
            return outcome(combine(clues, ()), (rules.categories,))
        scored = await classify(self._classifiers, policy, lambda classifier: classifier.judge(texts))
        classified = [finding for _, more in scored for finding in more]
        covered = (rules.categories, *(categories for categories, _ in scored))
        findings = combine(clues, classified, policy.document.negative_prompt_weight)
        return outcome(findings, covered, classified)


def _normalise_and_read(rules: RulesLayer, texts: Sequence[Text]) -> Clues:
    return rules.read([(text, normalise(text.text)) for text in texts])
