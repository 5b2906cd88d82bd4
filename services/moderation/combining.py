"""Puts the findings of all text layers together; pure, and the same under every policy.

Two rules stand over the layers. A sexual signal beside a reference to a minor is SEXUAL_MINORS: whether a list or a
classifier saw the one, and wherever in the request the other stands. And a public figure who is shown in a sexual,
violent, hateful or defaming way weighs more than one who is only named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.moderation.clues import Clues, is_negative, strongest
from services.moderation.verdicts import Category, Finding, weighted

LAYER = "rules"
MODEL_SIGNAL = 0.5  # from this probability on a classifier's SEXUAL counts as a sexual signal
HARM = 0.35  # from this score on a finding makes a bad context for a public figure
HARM_SHARE = 0.7  # how much of the context's score is added to the figure's
DEFAMING_SCORE = 0.7
_HARMS = frozenset(
    {
        Category.SEXUAL,
        Category.VIOLENCE,
        Category.GORE,
        Category.HATE,
        Category.HARASSMENT,
        Category.SELF_HARM,
        Category.ILLEGAL,
        Category.DEFAMATION,
    }
)


def combine(clues: Clues, scored: Sequence[Finding], negative_weight: float = 1.0) -> list[Finding]:
    """Every finding of the rules and of the classifiers with what follows from them together.

    scored: the classifiers' findings at full weight; those in negative prompts are weighed here by `negative_weight`
    (0 to 1), except SEXUAL_MINORS. Negative prompts are combined among themselves only.
    """
    findings = list(clues.findings)
    findings += [weighted(finding, negative_weight if is_negative(finding) else 1.0) for finding in scored]
    together: list[Finding] = []
    for negative in (False, True):
        together += _minors(clues, scored, negative)
    together += _figures(findings, clues)
    return findings + together


def _minors(clues: Clues, scored: Sequence[Finding], negative: bool) -> Iterator[Finding]:
    """A sexual signal times a reference to a minor: the strongest of each, wherever they stand."""
    minor = strongest(clues.minors, lambda sign: is_negative(sign) is negative)
    if minor is None:
        return
    models = [finding for finding in scored if finding.category is Category.SEXUAL and finding.score >= MODEL_SIGNAL]
    signal = strongest([*clues.signals, *models], lambda sign: is_negative(sign) is negative)
    if signal is None:
        return
    score = round(signal.score * minor.score, 6)
    entry = f"{signal.entry} x {minor.entry}"
    for sign in (signal, minor):
        yield replace(sign, layer=LAYER, category=Category.SEXUAL_MINORS, score=score, entry=entry)


def _figures(findings: Sequence[Finding], clues: Clues) -> Iterator[Finding]:
    """The figure named most surely with the worst that stands beside it."""
    figure = strongest(findings, lambda f: f.category is Category.PUBLIC_FIGURE and not is_negative(f))
    if figure is None:
        return
    harm = strongest(findings, lambda f: f.category in _HARMS and f.score >= HARM and not is_negative(f))
    if harm is not None:
        score = round(min(1.0, figure.score + HARM_SHARE * harm.score), 6)
        yield replace(figure, score=score, entry=f"{figure.entry} x {harm.category}")
    defaming = strongest(clues.defaming, lambda f: not is_negative(f))
    if defaming is not None:
        entry = f"{figure.entry} x {defaming.entry}"
        yield replace(defaming, category=Category.DEFAMATION, score=DEFAMING_SCORE, entry=entry)


__all__ = ["DEFAMING_SCORE", "HARM", "LAYER", "MODEL_SIGNAL", "combine"]
