"""The tables of `make eval-moderation`, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from services.moderation.verdicts import Category, Decision
from tools.train_moderation.corpus import CAPTION_FILES, LEARNED
from tools.train_moderation.evaluating import ALIKE, Judged, Results
from tools.train_moderation.fitting import RELATED
from tools.train_moderation.operating import REVIEW

_HEAD = """# How well texts are judged

Written by `make eval-moderation`; do not edit. Classifier {version}; the whole text pipeline under the default policy.

Three sets of prompts in files of their own, in mild wording; "caught" is sent to review or blocked. Read the numbers as
flattering: the prompts are few (one of twelve is 8 %), and all were written for this project. Which prompts were judged
wrongly was never looked at. Other people's prompts will fare worse.

- **First set** (`tools/train_moderation/data/eval`, {harmful[0]} harmful and {benign[0]} benign): its totals were
  looked at five times, these included, while exemplars were added and operating points chosen. Exemplars of VIOLENCE,
  HATE, SELF_HARM and ILLEGAL were written because its totals had shown them weak, by somebody who knew those totals.
- **Second set** (`data/eval2`, {harmful[1]} harmful and {benign[1]} benign): written before those exemplars, by their
  author, who had read the older ones of three categories; 13 prompts that resembled older exemplars were then
  replaced. Its totals were looked at four times, these included.
- **Third set** (`data/eval3`, {harmful[2]} harmful and {benign[2]} benign): written without sight of the exemplars or
  the second set, by somebody who had seen the totals by category and four harmless lines of the first; half of its
  harmless prompts were written to resemble something harmful. Its totals were looked at once: these. It is the
  cleanest figure.

Before these totals the exemplars were more than doubled, by somebody who had read no prompt of any set and knew the
totals by category of the first two (0.92 and 0.86 caught; in the second VIOLENCE 0.85, SELF_HARM 0.75, ILLEGAL 0.75,
WEAPONS 0.79, and 6.7 % of its captions reviewed or blocked). The form of the heads and their penalties were chosen by
cross-validation over topics of exemplars; the shares of harmless prompts so that of unseen ones near a category's
border about as many are stopped as the heads before stopped. That author knew how the third set is made up (its
README). Nothing was changed after these totals.
"""
_NAMES = ("First set", "Second set", "Third set")
_ALIKE = """{share:.1%} of its prompts have an exemplar closer than a cosine of {closeness}.

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


def written(sets: Sequence[Results]) -> str:
    """All of it, for the three sets."""
    parts = [_parted(results) for results in sets]
    head = _HEAD.format(
        version=sets[0].version,
        harmful=[len(harmful) for harmful, _ in parts],
        benign=[len(benign) for _, benign in parts],
    )
    tables = ("".join([f"\n# {name}\n\n", *_tables(results)]) for name, results in zip(_NAMES, sets, strict=True))
    return head + "".join(tables)


def _parted(results: Results) -> tuple[list[Judged], list[Judged]]:
    harmful = [judged for judged in results.plain if judged.prompt.category is not None]
    return harmful, [judged for judged in results.plain if judged.prompt.category is None]


def _tables(results: Results) -> list[str]:
    harmful, benign = _parted(results)
    return [
        _ALIKE.format(share=results.alike, closeness=ALIKE),
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
