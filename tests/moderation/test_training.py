"""How the heads are fitted: what cross-validation and the operating points promise."""

from __future__ import annotations

import numpy as np
import pytest

from services.moderation.verdicts import Category
from tools.train_moderation import corpus, fitting, operating
from tools.train_moderation.corpus import LEARNED, Prompt
from tools.train_moderation.fitting import Shown
from tools.train_moderation.folds import FOLDS, folds

WIDTH = 12


def made(count: int = 40) -> tuple[list[Prompt], Shown]:
    """`count` prompts of each category and as many topics of benign ones; each category lies in a direction."""
    random = np.random.default_rng(1)
    prompts, vectors = [], []
    for column, category in enumerate((*LEARNED, None)):
        for index in range(count * (1 if category else 8)):
            kind = category or ("captions", "portraits")[index % 2]
            prompts.append(Prompt(f"{category} {index}", kind, category, f"topic {index}"))
            vectors.append(random.normal(0, 0.25, WIDTH) + np.eye(WIDTH)[column])
    array = np.array(vectors, np.float32)
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    return prompts, Shown(array, np.arange(len(prompts)), np.ones(len(prompts), bool))


def test_headings_are_topics_and_no_prompts() -> None:
    prompts = corpus.read("train")
    assert not any(prompt.text.startswith("#") for prompt in prompts)
    assert {"terror", "hostages"} <= {prompt.topic for prompt in prompts if prompt.category is Category.VIOLENCE}


def test_a_topic_is_never_divided() -> None:
    titled = [Prompt(str(index), "captions", None, f"topic {index % 7}") for index in range(70)]
    untitled = [Prompt(str(index), "captions", None) for index in range(70)]
    vectors = np.eye(70, dtype=np.float32)
    alike = np.repeat(np.eye(7, dtype=np.float32), 10, axis=0)
    parts = folds(titled + untitled, np.concatenate([vectors, np.pad(alike, ((0, 0), (0, 63)))]))
    assert all(len(set(parts[:70][start::7])) == 1 for start in range(7))
    assert all(len(set(parts[70:][start : start + 10])) == 1 for start in range(0, 70, 10))
    assert set(parts) <= set(range(FOLDS))


def test_no_more_benign_prompts_than_wanted_reach_the_tiers() -> None:
    prompts, shown = made()
    fitted, unseen = fitting.fit(prompts, shown)
    scores = 1 / (1 + np.exp(-(unseen * fitted.slope + fitted.shift)))
    benign = scores[[prompt.category is None for prompt in prompts]]
    for limit, share in zip((operating.REVIEW, operating.BLOCK), operating.OTHERWISE, strict=True):
        assert (benign >= limit - 1e-9).any(axis=1).mean() <= share


@pytest.mark.parametrize("column", range(len(LEARNED)))
def test_unseen_exemplars_are_found_in_their_category(column: int) -> None:
    prompts, shown = made()
    unseen = fitting.cross_validated(prompts, shown)
    own = unseen[[prompt.category is LEARNED[column] for prompt in prompts]]
    assert (own.argmax(axis=1) == column).mean() >= 0.9


def test_the_same_data_give_the_same_heads() -> None:
    prompts, shown = made(10)
    (first, _), (second, _) = fitting.fit(prompts, shown), fitting.fit(prompts, shown)
    assert np.array_equal(first.weights, second.weights)
    assert np.array_equal(first.slope, second.slope)
