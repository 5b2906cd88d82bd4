"""Fits the heads, and the scale on which lists and heads share their thresholds."""

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

FOLDS = 5
PENALTY = 0.3  # of the squared weights; larger ones make flatter heads, which find fewer unseen exemplars
POSITIVE_SHARE = 0.35  # of the loss
REVIEW, BLOCK = 0.6, 0.85  # of the default policy

# Shares of benign training prompts that may reach REVIEW and BLOCK by any head, in image-model style and otherwise.
# The others hold many sentences written to look harmful, so their share is far above that of ordinary captions.
IMAGE_STYLE, OTHERWISE = (0.12, 0.012), (0.19, 0.02)
# How they are divided: what unseen exemplars of a category need, and most for cruelty, which is the worst to miss.
LENIENCY = {
    Category.SEXUAL: 0.4,
    Category.VIOLENCE: 4.0,
    Category.GORE: 1.0,
    Category.HATE: 1.5,
    Category.HARASSMENT: 1.5,
    Category.SELF_HARM: 1.6,
    Category.ILLEGAL: 1.2,
    Category.WEAPONS: 0.6,
}
LEAST_GAP = 0.4  # of the logits at REVIEW and BLOCK

# An exemplar of one may well be one of the others too: it is no negative example for them.
RELATED: tuple[frozenset[Category], ...] = (
    frozenset({Category.VIOLENCE, Category.GORE, Category.SELF_HARM}),
    frozenset({Category.VIOLENCE, Category.HATE, Category.HARASSMENT}),
    frozenset({Category.VIOLENCE, Category.WEAPONS, Category.ILLEGAL}),
    frozenset({Category.SEXUAL, Category.HARASSMENT}),
    frozenset({Category.ILLEGAL, Category.HARASSMENT}),
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """What the encoder saw of some prompts. owner: the index of each row's prompt. whole: rows that are whole texts."""

    vectors: Floats
    owner: npt.NDArray[np.int64]
    whole: npt.NDArray[np.bool_]


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
    return Shown(np.concatenate(vectors).astype(np.float64), np.array(owner), np.array(whole))


def fit(prompts: Sequence[Prompt], shown: Shown) -> tuple[Fitted, Floats]:
    """The heads of all prompts, and the logits [prompts, categories] that heads of the other folds gave each prompt."""
    unseen = np.full((len(prompts), len(LEARNED)), -np.inf)
    folds = np.random.default_rng(5).integers(0, FOLDS, len(prompts))
    for fold in range(FOLDS):
        weights, bias = _heads(prompts, shown, folds != fold)
        rows = folds[shown.owner] == fold
        np.maximum.at(unseen, shown.owner[rows], shown.vectors[rows] @ weights.T + bias)
    weights, bias = _heads(prompts, shown, np.ones(len(prompts), bool))
    slope, shift = _scale(prompts, unseen)
    return Fitted(weights, bias, slope, shift), unseen


def _heads(prompts: Sequence[Prompt], shown: Shown, used: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    fitted = [_head(category, prompts, shown, used) for category in LEARNED]
    return np.array([weights for weights, _ in fitted]), np.array([bias for _, bias in fitted])


def _head(
    category: Category, prompts: Sequence[Prompt], shown: Shown, used: npt.NDArray[np.bool_]
) -> tuple[Floats, float]:
    """Whole texts are positive; whole texts and pieces are negative: a piece of a harmful text may be harmless."""
    positive = np.array([prompt.category is category for prompt in prompts])
    skipped = np.array([not positive[index] and _related(prompt, category) for index, prompt in enumerate(prompts)])
    benign = np.array([prompt.category is None for prompt in prompts])
    rows = used[shown.owner] & ~skipped[shown.owner] & (shown.whole | benign[shown.owner])
    target = positive[shown.owner[rows]]
    weight = np.where(target, POSITIVE_SHARE / max(target.sum(), 1), (1 - POSITIVE_SHARE) / max((~target).sum(), 1))
    return _logistic(shown.vectors[rows], target, np.asarray(weight * 1000, np.float64))


def _related(prompt: Prompt, category: Category) -> bool:
    return any(prompt.category in group and category in group for group in RELATED)


def _logistic(vectors: Floats, target: npt.NDArray[np.bool_], weight: Floats) -> tuple[Floats, float]:
    sign = np.where(target, 1.0, -1.0)

    def loss(values: Floats) -> tuple[float, Floats]:
        margin = sign * (vectors @ values[:-1] + values[-1])
        slope = -sign * weight / (1 + np.exp(margin))
        total = float(weight @ np.logaddexp(0, -margin) + PENALTY / 2 * values[:-1] @ values[:-1])
        return total, np.append(vectors.T @ slope + PENALTY * values[:-1], slope.sum())

    found = minimize(loss, np.zeros(vectors.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return found.x[:-1], float(found.x[-1])


def _scale(prompts: Sequence[Prompt], unseen: Floats) -> tuple[Floats, Floats]:
    """Slope and shift with which no more than the wanted shares of benign prompts reach REVIEW and BLOCK."""
    styled = np.array([prompt.in_image_style and prompt.kind != "combined" for prompt in prompts])
    plain = np.array([prompt.category is None and not prompt.in_image_style for prompt in prompts])
    review, block = (
        np.maximum(_limits(unseen[styled], one), _limits(unseen[plain], other))
        for one, other in zip(IMAGE_STYLE, OTHERWISE, strict=True)
    )
    block = np.maximum(block, review + LEAST_GAP)
    slope = (_logit(BLOCK) - _logit(REVIEW)) / (block - review)
    return slope, _logit(REVIEW) - slope * review


def _limits(logits: Floats, share: float) -> Floats:
    """Logits, at like quantiles in each category, that `share` of the prompts reach in any of them."""
    leniency = np.array([LENIENCY[category] for category in LEARNED])
    low, high = 0.0, share
    for _ in range(40):
        middle = (low + high) / 2
        reached = float((logits >= _quantiles(logits, middle * leniency)).any(axis=1).mean())
        low, high = (middle, high) if reached < share else (low, middle)
    return _quantiles(logits, low * leniency)


def _quantiles(logits: Floats, shares: Floats) -> Floats:
    """In each column the value that its share of the rows reach."""
    return np.array([np.quantile(logits[:, column], 1 - share) for column, share in enumerate(shares)])


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))
