"""Parts the prompts for cross-validation so that heads are judged by topics that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tools.train_moderation.corpus import Prompt

FOLDS = 5
ALIKE = 0.72  # cosine from which prompts without a heading are one topic


def folds(prompts: Sequence[Prompt], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Each prompt's fold; all of one topic are in the same. vectors: one for each prompt, of length 1."""
    topics = _topics(prompts, vectors)
    return np.asarray(np.random.default_rng(5).integers(0, FOLDS, topics.max() + 1)[topics], np.int64)


def _topics(prompts: Sequence[Prompt], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """A heading is a topic; a prompt without one joins the most alike of those before it, or begins a topic."""
    headings: dict[tuple[str, str], int] = {}
    leaders: list[int] = []
    topics = np.empty(len(prompts), np.int64)
    for index, prompt in enumerate(prompts):
        if prompt.topic:
            topics[index] = headings.setdefault((prompt.kind, prompt.topic), -1 - len(headings))
            continue
        closeness = vectors[leaders] @ vectors[index]
        if leaders and closeness.max() >= ALIKE:
            topics[index] = int(closeness.argmax())
        else:
            topics[index] = len(leaders)
            leaders.append(index)
    return topics + len(headings)
