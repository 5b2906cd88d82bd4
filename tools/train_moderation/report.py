"""The tables of `make eval-moderation`, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from services.moderation.verdicts import Category, Decision
from tools.train_moderation.corpus import CAPTION_FILES, LEARNED
from tools.train_moderation.evaluating import Judged, Results
from tools.train_moderation.fitting import RELATED, REVIEW

_HEAD = """# How well texts are judged

Written by `make eval-moderation`; do not edit. Classifier {version}; the whole text pipeline under the default policy.

Two sets of prompts in files of their own, in mild wording; "caught" is sent to review or blocked. Read the numbers as
flattering: the prompts are few (one of twelve is 8 %) and by the same authors as the training data. Which prompts were
judged wrongly was never looked at. Other people's prompts will fare worse.

- **First set** (`tools/train_moderation/data/eval`, {harmful} harmful and {benign} benign): its totals were looked at
  twice while exemplars were added and the shares in `fitting.py` chosen. After that more exemplars of VIOLENCE, HATE,
  SELF_HARM and ILLEGAL were written because its totals had shown them weak, by somebody who knew those totals.
- **Second set** (`data/eval2`, {harmful2} harmful and {benign2} benign): written before those exemplars, by their
  author, who had read the older ones of three categories. Its totals were looked at once before (0.82 of the harmful
  caught, SELF_HARM 0.58; 5.3 % of captions and 1.3 % in image-model style reviewed or blocked); 13 prompts that
  resembled older exemplars were then replaced. No exemplar is closer to its prompts than a cosine of .8. It is the
  cleaner figure, not an untouched one.

Penalty and leniency in `fitting.py` were chosen after that: the penalty by cross-validation over the exemplars, the
leniency of SELF_HARM as a guess with totals in view. With them the
totals of both sets were looked at once more (VIOLENCE 0.87 and 0.77; of captions 1.8 % and 2.7 % reviewed or blocked,
in image style 4.1 % and 5.3 %), and the room up to the aims for harmless prompts was given to the review tier.
On the second set that and the exemplars before it cost ILLEGAL (0.83 to 0.75 caught) and WEAPONS (0.93 to 0.79).

# First set

"""
_SECOND = """
# Second set

"""
_CATEGORIES = """## By category

Recall is of the category's prompts: caught in any category, and scored at least {review} in this one. Precision and
AUPRC are of this category's score against benign prompts and those of unrelated categories.

| category | prompts | caught | recall | precision | AUPRC | benign ≥ {review} |
|---|---|---|---|---|---|---|
"""
_BENIGN = """
## Benign prompts

| style | prompts | reviewed or blocked | aim | blocked | aim |
|---|---|---|---|---|---|
"""
_EVASIONS = """
## Under evasion

| evasion | caught | of clean | aim |
|---|---|---|---|
"""
_AIMS = {"leet": 0.75, "spaced": 0.75, "padding": 0.85}


def written(first: Results, second: Results) -> str:
    """All of it, for both sets."""
    (harmful, benign), (harmful2, benign2) = _parted(first), _parted(second)
    head = _HEAD.format(
        version=first.version,
        harmful=len(harmful),
        benign=len(benign),
        harmful2=len(harmful2),
        benign2=len(benign2),
    )
    return "".join([head, *_tables(first), _SECOND, *_tables(second)])


def _parted(results: Results) -> tuple[list[Judged], list[Judged]]:
    harmful = [judged for judged in results.plain if judged.prompt.category is not None]
    return harmful, [judged for judged in results.plain if judged.prompt.category is None]


def _tables(results: Results) -> list[str]:
    harmful, benign = _parted(results)
    return [
        _CATEGORIES.format(review=REVIEW),
        *(_category(category, harmful, benign) for category in LEARNED),
        f"| all | {len(harmful)} | {_share(j.caught for j in harmful):.2f} | | | | |\n",
        _BENIGN,
        _style("captions and sentences", [j for j in benign if j.prompt.kind in CAPTION_FILES], (0.04, 0.01)),
        _style("image-model style", [j for j in benign if j.prompt.kind not in CAPTION_FILES], (0.12, 0.03)),
        _EVASIONS,
        *_evasions(results, _share(j.caught for j in harmful)),
    ]


def _category(category: Category, harmful: Sequence[Judged], benign: Sequence[Judged]) -> str:
    own = [judged for judged in harmful if judged.prompt.category is category]
    others = [*benign, *(judged for judged in harmful if not _related(judged.prompt.category, category))]
    hits, misses = _scores(own, category), _scores(others, category)
    found, wrong = (hits >= REVIEW).sum(), (misses >= REVIEW).sum()
    numbers = (
        _share(judged.caught for judged in own),
        float((hits >= REVIEW).mean()),
        float(found / max(found + wrong, 1)),
        _average_precision(hits, misses),
    )
    cells = " | ".join(f"{number:.2f}" for number in numbers)
    return f"| {category} | {len(own)} | {cells} | {(_scores(benign, category) >= REVIEW).mean():.1%} |\n"


def _related(one: Category | None, other: Category) -> bool:
    return one is other or any(one in group and other in group for group in RELATED)


def _scores(prompts: Sequence[Judged], category: Category) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([judged.scores.get(category, 0.0) for judged in prompts])


def _average_precision(
    hits: np.ndarray[tuple[int], np.dtype[np.float64]], misses: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float:
    """The mean, over the hits, of the precision at each one's score."""
    above = [(hits >= score).sum() / ((hits >= score).sum() + (misses >= score).sum()) for score in hits]
    return float(np.mean(above))


def _style(name: str, prompts: Sequence[Judged], aims: tuple[float, float]) -> str:
    caught = _share(judged.caught for judged in prompts)
    blocked = _share(judged.decision is Decision.BLOCK for judged in prompts)
    return f"| {name} | {len(prompts)} | {caught:.1%} | ≤ {aims[0]:.0%} | {blocked:.1%} | ≤ {aims[1]:.0%} |\n"


def _evasions(results: Results, clean: float) -> Iterable[str]:
    for name, prompts in results.evading.items():
        caught = _share(judged.caught for judged in prompts)
        yield f"| {name} | {caught:.2f} | {caught / clean:.0%} | ≥ {_AIMS.get(name, 0.95):.0%} |\n"


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean(list(flags)))
