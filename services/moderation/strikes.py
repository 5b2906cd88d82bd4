"""Strikes: which verdicts earn one, and what they come to; pure."""

from __future__ import annotations

from dataclasses import replace

from services.moderation.policies import Strikes
from services.moderation.verdicts import Category, Decision, SubjectKind, Verdict

LAYER = "strikes"
DAY_US = 86_400_000_000


def earned(verdict: Verdict, rule: Strikes) -> Category | None:
    """The category for which the verdict's user gets a strike; None when they get none.

    Only prompts earn strikes: what a model drew is not the user's doing. What strikes blocked earns no further one.
    """
    subject, judgement = verdict.subject, verdict.judgement
    if not subject.user or subject.kind is not SubjectKind.PROMPT or judgement.decision is not Decision.BLOCK:
        return None
    if judgement.layer == LAYER:
        return None
    blocking = [score.category for score in judgement.scores if score.decision is Decision.BLOCK]
    counted = [category for category in blocking if not rule.categories or category in rule.categories]
    return counted[0] if counted else None


def struck(verdict: Verdict, rule: Strikes) -> Verdict:
    """The verdict for a user who has as many strikes as the rule wants; never looser than before."""
    if rule.consequence == "NONE":
        return verdict
    consequence = Decision[rule.consequence]
    if verdict.judgement.decision >= consequence:
        return verdict
    return replace(verdict, judgement=replace(verdict.judgement, decision=consequence, layer=LAYER))
