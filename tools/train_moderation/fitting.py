"""Fits the heads: for each category a logistic regression of its own, and one that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from services.moderation.classifiers.sentence import SentenceModel
from services.moderation.classifiers.sentence_windows import views
from services.moderation.normalise import normalise
from services.moderation.verdicts import Category
from tools.train_moderation.corpus import LEARNED, Prompt
from tools.train_moderation.folds import FOLDS, folds
from tools.train_moderation.operating import Floats, scale

# By cross-validation over topics of exemplars: what finds the most unseen ones at the same share of benign prompts.
PENALTY = 0.1  # of a category's squared weights
SHARED_PENALTY = 0.05  # of those that tell anything harmful from anything harmless
SHARED = 0.5  # how much of these each head gets; more finds more and mixes up categories more
POSITIVE_SHARE = 0.35  # of a category's loss
STEPS = 250

# An exemplar of one may well be one of the others too: it is no negative example for them.
RELATED: tuple[frozenset[Category], ...] = (
    frozenset({Category.VIOLENCE, Category.GORE, Category.SELF_HARM}),
    frozenset({Category.VIOLENCE, Category.HATE, Category.HARASSMENT}),
    frozenset({Category.VIOLENCE, Category.WEAPONS, Category.ILLEGAL}),
    frozenset({Category.SEXUAL, Category.HARASSMENT}),
    frozenset({Category.ILLEGAL, Category.HARASSMENT}),
)

Bools = npt.NDArray[np.bool_]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shown:
    """What the encoder saw of some prompts. owner: the index of each row's prompt. whole: rows that are whole texts."""

    vectors: Vectors
    owner: npt.NDArray[np.int64]
    whole: Bools


@dataclass(frozen=True)
class Fitted:
    """weights: [categories, 384]; the others one number for each category."""

    weights: Floats
    bias: Floats
    slope: Floats
    shift: Floats


def show(model: SentenceModel, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> Shown:
    """Encodes every view of each prompt's texts (itself, and itself in a style), each text on its own as in service."""
    vectors, owner, whole = [], [], []
    for index in range(len(prompts)):
        for text in texts[index]:
            shown = views(normalise(text), model.restorer)
            vectors.append(model.encoder.encode([view.text for view in shown]))
            owner.extend([index] * len(shown))
            whole.extend([True] + [False] * (len(shown) - 1))
    return Shown(np.concatenate(vectors), np.array(owner), np.array(whole))


def fit(prompts: Sequence[Prompt], shown: Shown) -> tuple[Fitted, Floats]:
    """The heads of all prompts, and the logits [prompts, categories] by heads that had not seen the prompt's topic."""
    weights, bias = _heads(prompts, shown, np.ones(len(prompts), bool))
    unseen = cross_validated(prompts, shown)
    slope, shift = scale(prompts, unseen)
    return Fitted(weights, bias, slope, shift), unseen


def cross_validated(prompts: Sequence[Prompt], shown: Shown) -> Floats:
    """The highest logit of each prompt's views, by heads that have not seen its topic."""
    unseen = np.full((len(prompts), len(LEARNED)), -np.inf)
    _, first = np.unique(shown.owner, return_index=True)
    parts = folds(prompts, shown.vectors[first])
    for fold in range(FOLDS):
        weights, bias = _heads(prompts, shown, parts != fold)
        rows = parts[shown.owner] == fold
        np.maximum.at(unseen, shown.owner[rows], shown.vectors[rows] @ weights.T + bias)
    return unseen


def _heads(prompts: Sequence[Prompt], shown: Shown, used: Bools) -> tuple[Floats, Floats]:
    """Whole texts are positive; whole texts and pieces are negative: a piece of a harmful text may be harmless."""
    benign = np.array([prompt.category is None for prompt in prompts])
    rows = used[shown.owner] & (shown.whole | benign[shown.owner])
    owner, vectors = shown.owner[rows], shown.vectors[rows]
    positive = np.array([[prompt.category is category for category in LEARNED] for prompt in prompts])
    skipped = np.array([[_skipped(prompt, category) for category in LEARNED] for prompt in prompts])
    own = _logistic(vectors, positive[owner], _weight(positive[owner], ~skipped[owner]), PENALTY)
    shared = _logistic(vectors, ~benign[owner, None], _shared_weight(positive[owner]), SHARED_PENALTY)
    both = own + SHARED * shared
    return both[:-1].T, both[-1]


def _skipped(prompt: Prompt, category: Category) -> bool:
    """Whether it is neither an exemplar of the category nor known to be none."""
    return prompt.category is not category and any(prompt.category in group and category in group for group in RELATED)


def _weight(positive: Bools, used: Bools) -> Floats:
    """[rows, categories] of the loss: exemplars together have their share, whatever their number."""
    hits, misses = positive & used, ~positive & used
    counts = np.maximum(hits.sum(axis=0), 1), np.maximum(misses.sum(axis=0), 1)
    return np.asarray(
        1000 * (hits * POSITIVE_SHARE / counts[0] + misses * (1 - POSITIVE_SHARE) / counts[1]), np.float64
    )


def _shared_weight(positive: Bools) -> Floats:
    """[rows, 1]: half for the benign, half for the harmful, of which each category has as much as any other."""
    counts = np.maximum(positive.sum(axis=0), 1)
    benign = ~positive.any(axis=1)
    harmful = (positive / counts).sum(axis=1) / len(LEARNED)
    return np.asarray(2000 * (harmful + benign / benign.sum())[:, None], np.float64)


def _logistic(vectors: Vectors, target: Bools, weight: Floats, penalty: float) -> Floats:
    """[384 + 1, columns] of weights with the bias last, one regression for each column of the target."""
    sign = np.where(target, 1, -1).astype(np.float32)
    weight32 = weight.astype(np.float32)
    shape = (vectors.shape[1] + 1, target.shape[1])

    def loss(flat: Floats) -> tuple[float, Floats]:
        values = flat.reshape(shape)
        margin = sign * (vectors @ values[:-1].astype(np.float32) + values[-1].astype(np.float32))
        slope = -sign * weight32 / (1 + np.exp(np.minimum(margin, 50)))
        total = float((weight32 * np.logaddexp(0, -margin)).sum(dtype=np.float64))
        gradient = np.vstack([vectors.T @ slope + penalty * values[:-1], slope.sum(axis=0)])
        return total + penalty / 2 * float((values[:-1] ** 2).sum()), gradient.astype(np.float64).ravel()

    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return np.asarray(found.x.reshape(shape), np.float64)
