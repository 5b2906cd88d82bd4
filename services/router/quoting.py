"""What a job would cost before anything is spent: what is reserved for it, and what each candidate asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.router.candidates import Candidate
from services.router.money import Money, total
from services.router.planning import Planner, PlanRequest, Prospect


@dataclass(frozen=True, slots=True)
class Quote:
    """The candidates of a job in order, and the worst case to reserve for it."""

    candidates: tuple[Candidate, ...]
    reserve: Money


def reservation(candidates: Sequence[Candidate], *, hedge: bool = False) -> Money:
    """The dearest planned candidate's worst case for all pictures; every candidate is within `max_cost` already.

    With `hedge` the two dearest ones' together: both may be asked and cost, though only one is debited.
    """
    dearest = sorted((candidate.worst_case for candidate in candidates), key=lambda cost: cost.micros, reverse=True)
    return total(dearest[: 2 if hedge else 1])


def quote(planner: Planner, request: PlanRequest) -> Quote:
    """Plans and prices a job; raises as `Planner.plan` does."""
    candidates = planner.plan(request)
    return Quote(candidates, reservation(candidates, hedge=request.options.routing.hedge))


def offers(planner: Planner, request: PlanRequest) -> tuple[Prospect, ...]:
    """Every route that can draw the spec, those a job would try first; a dearer one than `max_cost` says so.

    Raises:
        As `Planner.plan`, except that a price above `max_cost` and a missing key are told in the offer.
    """
    survey = planner.survey(request)
    if not survey.prospects:
        planner.plan(request)
    priced = [_bounded(prospect, request.options.max_cost) for prospect in survey.prospects]
    return tuple(sorted(priced, key=lambda prospect: bool(prospect.obstacle)))


def explain(candidate: Candidate) -> str:
    """How the price came about, for people: `2 calls, 4 x 1024x1024, quality high`."""
    calls = len(candidate.calls())
    counted = "the input's size, counted as " if candidate.keeps_size else ""
    parts = [f"{calls} call{'s' if calls > 1 else ''}", f"{candidate.count} x {counted}{candidate.size}"]
    if candidate.inputs:
        parts.append(f"{candidate.inputs} source image{'s' if candidate.inputs > 1 else ''}")
    if candidate.quality:
        parts.append(f"quality {candidate.quality}")
    if candidate.steps:
        parts.append(f"{candidate.steps} steps")
    if candidate.batch and Decimal(candidate.price.batch_discount):
        parts.append("batch")
    return ", ".join(parts)


def _bounded(prospect: Prospect, max_cost: Money | None) -> Prospect:
    if prospect.obstacle or max_cost is None or prospect.candidate.worst_case <= max_cost:
        return prospect
    return Prospect(prospect.candidate, f"costs more than options.max_cost, {max_cost}")
