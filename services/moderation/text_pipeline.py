"""How texts are judged: normalise, language gate, rules, classifiers, then all of it together; every layer always.

Short texts are judged where the call runs; long ones in a pool of threads, so that one caller's 32,000 characters do
not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from services.moderation import language
from services.moderation.classifiers.base import TextClassifier
from services.moderation.clues import Clues
from services.moderation.combining import combine, sides
from services.moderation.language import Foreign
from services.moderation.layers import Outcome, classify, outcome
from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import Category, Text

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
        clues, foreign = await self._read(texts, policy, rules)
        scored = await classify(self._classifiers, policy, lambda classifier: classifier.judge(texts))
        classified = [finding for _, more in scored for finding in more]
        findings = combine(clues, classified, policy.document.negative_prompt_weight)
        covered = (rules.categories, *(categories for categories, _ in scored))
        both = sides(clues, classified)
        if not foreign:
            return outcome(findings, covered, classified, both)
        judged = self._judged_in({each.language for each in foreign}, [categories for categories, _ in scored])
        unjudged = frozenset(language.unjudged(judged))
        findings += language.findings(foreign, policy, judged)
        return outcome(findings, [categories - unjudged for categories in covered], classified, both)

    async def _read(self, texts: Sequence[Text], policy: Policy, rules: RulesLayer) -> _Read:
        """In a thread where it takes long: many characters, or a language that must be identified."""
        if sum(len(text.text) for text in texts) > INLINE_CHARACTERS:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _read, texts, policy, rules)
        normalised = [(text, normalise(text.text)) for text in texts]
        found: list[Foreign] = []
        if policy.document.languages and not all(language.looks_english(text) for _, text in normalised):
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._pool, language.foreign, normalised, policy)
        return _Read(rules.read(normalised), found)

    def _judged_in(self, languages: set[str], covered: Sequence[frozenset[Category]]) -> frozenset[Category]:
        """The categories that classifiers judged which understand every one of these languages."""
        known = [
            categories
            for classifier, categories in zip(self._classifiers, covered, strict=True)
            if not classifier.capability.languages or languages <= classifier.capability.languages
        ]
        return frozenset[Category]().union(*known)


class _Read(NamedTuple):
    """What the layers without a model say. foreign: texts in languages that the policy does not name."""

    clues: Clues
    foreign: list[Foreign]


def _read(texts: Sequence[Text], policy: Policy, rules: RulesLayer) -> _Read:
    normalised = [(text, normalise(text.text)) for text in texts]
    return _Read(rules.read(normalised), language.foreign(normalised, policy))
