"""Judges the prompts held apart by the whole text pipeline under the default policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from services.moderation.assembly import layers
from services.moderation.classifiers import sentence
from services.moderation.classifiers.sentence_encoder import Encoder, Vectors
from services.moderation.config import DEFAULT_POLICY, ModerationSettings
from services.moderation.policies import Policy
from services.moderation.policy_files import load_policies
from services.moderation.rule_shelf import RuleShelf
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Category, Decision, Judgement, Safety, Text, TextKind, judge
from tools.train_moderation.corpus import Prompt
from tools.train_moderation.evasions import EVASIONS

ALIKE = 0.8  # cosine


@dataclass(frozen=True)
class Judged:
    """A prompt with what was decided about it. scores: of each category in which something was found."""

    prompt: Prompt
    decision: Decision
    scores: dict[Category, float]

    @property
    def caught(self) -> bool:
        """Whether it goes to a person or is blocked."""
        return self.decision >= Decision.REVIEW


@dataclass(frozen=True)
class Results:
    """All prompts as they are, and the harmful ones under each evasion.

    version: of the classifier. alike: the share of prompts that closely resemble a prompt of the training data.
    """

    version: str
    alike: float
    plain: Sequence[Judged]
    evading: Mapping[str, Sequence[Judged]] = field(default_factory=dict)


def vectors(encoder: Encoder, prompts: Sequence[Prompt]) -> Vectors:
    """One for each prompt, which is encoded alone as in service."""
    return np.concatenate([encoder.encode([prompt.text]) for prompt in prompts])


class Evaluation:
    """Judges under the default policy, with the built-in classifier."""

    def __init__(self, encoder: Path) -> None:
        settings = ModerationSettings(encoder=str(encoder))
        self._encoder = Encoder.load(encoder)
        self._policy: Policy = load_policies(DEFAULT_POLICY, layers(settings)).for_tenant("")
        classifier = sentence.make(settings)
        assert classifier is not None
        self._classifier = classifier
        self._pool = ThreadPoolExecutor(1)
        self._pipeline = TextPipeline(RuleShelf([self._policy]), [classifier], self._pool)

    async def run(self, prompts: Sequence[Prompt], trained: Vectors) -> Results:
        """Judges everything, each prompt on its own. trained: vectors of the training data."""
        harmful = [prompt for prompt in prompts if prompt.category is not None]
        plain = await self._judged(prompts, lambda text: text)
        evading = {name: await self._judged(harmful, disguise) for name, disguise in EVASIONS.items()}
        await self._classifier.close()
        self._pool.shutdown()
        alike = (vectors(self._encoder, prompts) @ trained.T).max(axis=1) > ALIKE
        return Results(self._classifier.capability.version, float(alike.mean()), plain, evading)

    async def _judged(self, prompts: Sequence[Prompt], disguise: Callable[[str], str]) -> list[Judged]:
        found = []
        for prompt in prompts:
            judgement = await self._judgement(disguise(prompt.text))
            scores = {score.category: score.score for score in judgement.scores}
            found.append(Judged(prompt, judgement.decision, scores))
        return found

    async def _judgement(self, text: str) -> Judgement:
        outcome = await self._pipeline.judge([Text(0, TextKind.PROMPT, text)], self._policy)
        return judge(outcome.findings, self._policy.rules, Safety())
