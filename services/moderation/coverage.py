"""What a policy does about categories that no layer could judge in the content; pure."""

from __future__ import annotations

from collections.abc import Iterable

from services.moderation.policies import Policy
from services.moderation.verdicts import Category, Decision, Finding

LAYER = "not-evaluated"
VERSION = "1"


def findings(not_evaluated: Iterable[Category], policy: Policy) -> list[Finding]:
    """One for each category that the policy does not want to go unjudged; its score is 0, since nothing was seen."""
    found = []
    for category in not_evaluated:
        limits = policy.document.thresholds.get(category)
        decision = Decision.ALLOW if limits is None else Decision[limits.unevaluated]
        if decision is not Decision.ALLOW:
            found.append(Finding(LAYER, category, 0.0, LAYER, VERSION, at_least=decision))
    return found
