"""The model card that stands beside the heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from services.moderation.classifiers.sentence_encoder import MODEL_NAME, SOURCE_SHA256
from tools.train_moderation.corpus import BORDER, LEARNED, Prompt
from tools.train_moderation.fitting import SHARED, Fitted
from tools.train_moderation.folds import FOLDS
from tools.train_moderation.operating import BLOCK, IMAGE_STYLE, OTHERWISE, REVIEW, Floats

_HEAD = """# Heads of the text classifier: {version}

Written by `make train-moderation`; do not edit.

What they are: a logistic regression for each category over the vectors of {encoder} (all-MiniLM-L6-v2,
Apache-2.0), frozen, plus {shared} of one that tells anything harmful from anything harmless. They say how much a prompt
for an image model, or a sentence, resembles exemplars of a category. Weights: sha256 {source}.

A text's score is the highest of the whole text and its clauses or windows of 12 words.

Meant for: English. Texts in other languages are stopped by the language gate. Not meant for: judging people, legal
decisions, SEXUAL_MINORS (a rule), names, personal data.

Data: {harmful} exemplars in mild wording and {benign} benign prompts, written for this project
(`tools/train_moderation/data/train`), {border} of the latter to resemble harmful ones; each also with a style added.
Nothing was taken from public sets.

Scale: at most {reviewed[0]:.1%} of the benign prompts in image-model style (without the combined ones) reach the score
{review} in any category and {blocked[0]:.1%} reach {block}; of the others, most of them written to resemble harmful
ones, {reviewed[1]:.1%} and {blocked[1]:.1%}; each judged by heads that had not seen its topic ({folds} parts). These
shares are divided among the categories so that the product of their recalls is largest. It is a scale of operating
points that lists and heads share, not a probability.

Limits: irony, quotations and news read like what they quote; reversed text and dropped vowels are not undone; a
category's exemplars are few, and what resembles none of them is missed. Measured on prompts written apart from these:
`docs/moderation-report.md`.

Unseen topics (a topic that is left out is harder than a prompt that is left out):

| category | exemplars | unseen exemplars ≥ {review} | ≥ {block} | unseen benign ≥ {review} | ≥ {block} |
|---|---|---|---|---|---|
"""


def written(prompts: Sequence[Prompt], fitted: Fitted, unseen: Floats, version: str) -> str:
    """The card, in Markdown."""
    scores = 1 / (1 + np.exp(-(unseen * fitted.slope + fitted.shift)))
    counts = Counter(prompt.category for prompt in prompts)
    benign = np.array([prompt.category is None for prompt in prompts])
    head = _HEAD.format(
        version=version,
        encoder=MODEL_NAME,
        source=SOURCE_SHA256,
        harmful=len(prompts) - counts[None],
        benign=counts[None],
        border=sum(prompt.kind.startswith(BORDER) for prompt in prompts),
        shared=SHARED,
        review=REVIEW,
        block=BLOCK,
        reviewed=(IMAGE_STYLE[0], OTHERWISE[0]),
        blocked=(IMAGE_STYLE[1], OTHERWISE[1]),
        folds=FOLDS,
    )
    rows = []
    for index, category in enumerate(LEARNED):
        own = np.array([prompt.category is category for prompt in prompts])
        shares = [float((scores[which, index] >= limit).mean()) for which in (own, benign) for limit in (REVIEW, BLOCK)]
        rows.append(f"| {category} | {counts[category]} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return head + "\n".join(rows) + "\n"
