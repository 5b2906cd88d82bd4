"""What the rules saw in a request, before it is put together with what other layers found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.moderation.verdicts import Finding, Signs, TextKind


@dataclass(frozen=True, slots=True)
class Clues:
    """Findings, and signs that mean something only beside others.

    findings: what counts alone, weighed as the policy wants negative prompts weighed.
    signals: sexual terms, at full weight. minors: references to a minor. defaming: situations that defame a person.
    All as findings with spans; a sign's own score says how sure it is, from 0 to 1.
    """

    findings: tuple[Finding, ...] = ()
    signals: tuple[Finding, ...] = ()
    minors: tuple[Finding, ...] = ()
    defaming: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides of the rule over two signals, each the strongest that was found; None where nothing was."""

    sexual: Finding | None = None
    minor: Finding | None = None

    @property
    def signs(self) -> Signs:
        """How sure each is."""
        sexual, minor = (0.0 if side is None else side.score for side in (self.sexual, self.minor))
        return Signs(sexual, minor)


def strongest(findings: Iterable[Finding], fits: Callable[[Finding], bool] = lambda _: True) -> Finding | None:
    """The finding with the highest score among those that fit; the first of equals; None when none fits."""
    return max(filter(fits, findings), key=lambda finding: finding.score, default=None)


def is_negative(finding: Finding) -> bool:
    """Whether it lies in a negative prompt: in what the caller does not want to see."""
    return finding.span is not None and finding.span.kind is TextKind.NEGATIVE_PROMPT


__all__ = ["Clues", "Sides", "is_negative", "strongest"]
