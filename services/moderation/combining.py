"""Puts the findings of all text layers together; pure, and the same under every policy.

Two rules stand over the layers. A sexual signal beside a reference to a minor is SEXUAL_MINORS: whether a list or a
classifier saw the one, and wherever in the request the other stands. And a public figure who is shown in a sexual,
violent, hateful or defaming way weighs more than one who is only named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.moderation.clues import Clues, Sides, is_negative, strongest
from services.moderation.verdicts import Category, Finding, Signs, weighted

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


def sides(clues: Clues, scored: Sequence[Finding], negative: bool = False) -> Sides:
    """The strongest sexual signal and reference to a minor, in negative prompts or else in all other texts."""

    def fits(sign: Finding) -> bool:
        return is_negative(sign) is negative

    return Sides(strongest([*clues.signals, *_sexual(scored)], fits), strongest(clues.minors, fits))


def beside(shown: Sequence[Finding], said: Sides, asked: Signs) -> list[Finding]:
    """SEXUAL_MINORS where a picture shows one side of the rule, and a text in it or its prompt the other.

    shown: what classifiers found in the picture. said: by text in the picture, which was judged by itself before.
    asked: what the prompts of the same job came to.
    """
    sexual = strongest([*_sexual(shown), *([said.sexual] if said.sexual else [])])
    found = list(_met(strongest(_sexual(shown)), said.minor))
    if sexual is not None and asked.minor:
        found.append(_meeting(sexual, asked.minor, f"{sexual.entry} x prompt"))
    if said.minor is not None and asked.sexual:
        found.append(_meeting(said.minor, asked.sexual, f"prompt x {said.minor.entry}"))
    return found


def _sexual(scored: Sequence[Finding]) -> list[Finding]:
    """What classifiers take for sexual."""
    return [finding for finding in scored if finding.category is Category.SEXUAL and finding.score >= MODEL_SIGNAL]


def _minors(clues: Clues, scored: Sequence[Finding], negative: bool) -> Iterator[Finding]:
    """A sexual signal times a reference to a minor: the strongest of each, wherever they stand."""
    both = sides(clues, scored, negative)
    yield from _met(both.sexual, both.minor)


def _met(sexual: Finding | None, minor: Finding | None) -> Iterator[Finding]:
    """What the two sides come to, told at the place of each; nothing without both."""
    if sexual is not None and minor is not None:
        entry = f"{sexual.entry} x {minor.entry}"
        yield _meeting(sexual, minor.score, entry)
        yield _meeting(minor, sexual.score, entry)


def _meeting(sign: Finding, other: float, entry: str) -> Finding:
    score = round(sign.score * other, 6)
    return replace(sign, layer=LAYER, category=Category.SEXUAL_MINORS, score=score, entry=entry)


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


__all__ = ["DEFAMING_SCORE", "HARM", "LAYER", "MODEL_SIGNAL", "beside", "combine", "sides"]
