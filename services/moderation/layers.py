"""What both pipelines share: running classifiers under their deadlines, and what is known afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mesh.errors import MeshError, Unavailable
from services.moderation.classifiers.base import Capability
from services.moderation.clues import Sides
from services.moderation.policies import Policy
from services.moderation.verdicts import Category, Finding


class Classifier(Protocol):
    """What text and image classifiers have in common."""

    name: str
    capability: Capability

    async def close(self) -> None:
        """Frees what it holds."""
        ...


C = TypeVar("C", bound=Classifier)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all layers found, and the categories that none of them could judge.

    scored: what the classifiers alone found, at full weight, so that another version can be applied to it. sides: what
    the texts say that means something only beside something else.
    """

    findings: tuple[Finding, ...]
    not_evaluated: tuple[Category, ...]
    scored: tuple[Finding, ...] = ()
    sides: Sides = field(default_factory=Sides)


def outcome(
    findings: Iterable[Finding],
    covered: Iterable[frozenset[Category]],
    scored: Iterable[Finding] = (),
    sides: Sides = Sides(),  # noqa: B008 - frozen
) -> Outcome:
    """The findings with every category of the contract that is in none of `covered`."""
    known = frozenset[Category]().union(*covered)
    missing = tuple(category for category in Category if category not in known)
    return Outcome(tuple(findings), missing, tuple(scored), sides)


async def classify(
    classifiers: Sequence[C], policy: Policy, judge: Callable[[C], Awaitable[Sequence[Finding]]]
) -> list[tuple[frozenset[Category], Sequence[Finding]]]:
    """Runs them at the same time; one that fails leaves its categories uncovered, or fails the call, by policy."""
    return await asyncio.gather(*(_one(classifier, policy, judge) for classifier in classifiers))


async def _one(
    classifier: C, policy: Policy, judge: Callable[[C], Awaitable[Sequence[Finding]]]
) -> tuple[frozenset[Category], Sequence[Finding]]:
    if classifier.capability.on_demand and classifier.name not in policy.document.required_layers:
        return frozenset(), ()
    try:
        findings = await asyncio.wait_for(judge(classifier), classifier.capability.timeout)
    except (MeshError, TimeoutError) as error:
        if policy.document.failure_mode == "OPEN":
            return frozenset(), ()
        text = f"the classifier {classifier.name} does not answer, and the policy needs it"
        raise Unavailable(text, metadata={"peer": classifier.name}, retry_after=1.0) from error
    return classifier.capability.categories, findings
