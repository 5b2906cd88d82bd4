"""The scale on which lists and heads share their thresholds: which logit becomes REVIEW and which BLOCK."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.moderation.verdicts import Category
from tools.train_moderation.corpus import LEARNED, Prompt

REVIEW, BLOCK = 0.6, 0.85  # of the default policy

# Shares of benign training prompts that may reach REVIEW and BLOCK by any head, in image-model style and otherwise.
# Most of the others were written to look harmful, so their share is far above that of ordinary captions.
IMAGE_STYLE, OTHERWISE = (0.12, 0.01), (0.14, 0.012)
WEIGHT = {Category.VIOLENCE: 4.0}  # of a category's recall, 1 for the others: cruelty is the worst to miss
LEAST_GAP = 0.4  # of the logits at REVIEW and BLOCK

_SHARES = np.geomspace(0.0004, 0.3, 300)  # of benign prompts that a single head may take
Floats = npt.NDArray[np.float64]


def scale(prompts: Sequence[Prompt], unseen: Floats) -> tuple[Floats, Floats]:
    """Slope and shift with which no more than the wanted shares of benign prompts reach REVIEW and BLOCK.

    unseen: logits [prompts, categories] by heads that had not seen the prompt's topic.
    """
    styled = np.array([prompt.in_image_style and prompt.kind != "combined" for prompt in prompts])
    plain = np.array([prompt.category is None and not prompt.in_image_style for prompt in prompts])
    hits = [unseen[[prompt.category is category for prompt in prompts], i] for i, category in enumerate(LEARNED)]
    review, block = (
        np.maximum(_limits(hits, unseen[styled], one), _limits(hits, unseen[plain], other))
        for one, other in zip(IMAGE_STYLE, OTHERWISE, strict=True)
    )
    block = np.maximum(block, review + LEAST_GAP)
    slope = (_logit(BLOCK) - _logit(REVIEW)) / (block - review)
    return slope, _logit(REVIEW) - slope * review


def _limits(hits: Sequence[Floats], benign: Floats, share: float) -> Floats:
    """The logits that `share` of the benign prompts reach in any category.

    The share is divided among the categories so that the product of their weighted recalls is as large as can be: the
    same price is paid everywhere for the same gain.
    """
    choices = [np.quantile(column, 1 - _SHARES) for column in benign.T]
    gains = [_weighted(category, own, limits) for category, own, limits in zip(LEARNED, hits, choices, strict=True)]
    low, high = 0.01, 100_000.0
    limits = _chosen(choices, gains, high)
    for _ in range(60):
        price = float(np.sqrt(low * high))
        tried = _chosen(choices, gains, price)
        if (benign >= tried).any(axis=1).mean() > share:
            low = price
        else:
            high, limits = price, tried
    return limits


def _weighted(category: Category, own: Floats, limits: Floats) -> Floats:
    """The logarithm of the category's recall at each of the limits; one more caught than there are keeps it finite."""
    caught = (own[:, None] >= limits).sum(axis=0) + 1
    return WEIGHT.get(category, 1.0) * np.asarray(np.log(caught / (len(own) + 1)), np.float64)


def _chosen(choices: Sequence[Floats], gains: Sequence[Floats], price: float) -> Floats:
    return np.array([limits[np.argmax(gain - price * _SHARES)] for limits, gain in zip(choices, gains, strict=True)])


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))
