"""A candidate: one way to draw a spec, resolved and priced; and which of several comes first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mesh.errors import FailedPrecondition
from services.router.capabilities import Capabilities
from services.router.catalog import Account
from services.router.money import Money, total
from services.router.pricing import BasePrice, Measured, Work, actual_cost, worst_case
from services.router.specs import Goal, Size


@dataclass(frozen=True, slots=True)
class Candidate:
    """One route that can draw the spec, with everything resolved that a call needs.

    account: None when the provider has none that is configured. version: empty when the provider decides. size: what is
    drawn, or, with `keeps_size`, what prices count with: the provider is then told no size, and the result's follows
    from the source image. steps: as asked for, else the route's default; 0 when it takes none. worst_case: for all
    pictures of the spec. p50_s: observed median seconds of a call; None without any. dropped: fields of the spec that
    it leaves out, by the caller's leave; with `size`, the nearest one is drawn instead. inputs, operation, batch: see
    `Work`.
    """

    provider: str
    account: Account | None
    model: str
    provider_model: str
    version: str
    size: Size
    steps: int
    quality: str
    count: int
    worst_case: Money
    timeout_s: float
    count_per_call: int
    capabilities: Capabilities
    price: BasePrice
    prompt_bytes: int
    quality_rank: int
    p50_s: float | None = None
    keeps_size: bool = False
    dropped: tuple[str, ...] = ()
    inputs: int = 0
    operation: str = "TEXT_TO_IMAGE"
    batch: bool = False

    def work(self, count: int) -> Work:
        """A call for `count` pictures, as prices look at it."""
        return Work(
            size=self.size,
            count=count,
            steps=self.steps,
            quality=self.quality,
            prompt_bytes=self.prompt_bytes,
            inputs=self.inputs,
            operation=self.operation,
            batch=self.batch,
        )

    def call_worst_case(self, count: int) -> Money:
        """The most one call for `count` pictures may cost."""
        return worst_case(self.price, self.work(count))

    def call_cost(self, delivered: int, measured: Measured, volume: int = 0) -> Money:
        """What a call that delivered so many pictures cost, by the price book. See `pricing.actual_cost`."""
        return actual_cost(self.price, self.work(delivered), measured, volume)

    def calls(self) -> list[int]:
        """How many pictures each call is asked for, when all of the spec's are missing."""
        return split_count(self.count, self.count_per_call)


def split_count(count: int, per_call: int) -> list[int]:
    """Pictures per call: as many full calls as fit, then the rest."""
    full, rest = divmod(count, per_call)
    return [per_call] * full + ([rest] if rest else [])


def job_worst_case(price: BasePrice, work: Work, count: int, per_call: int) -> Money:
    """The most all calls for `count` pictures may cost together, each rounded up on its own."""
    return total(worst_case(price, replace(work, count=pictures)) for pictures in split_count(count, per_call))


def within(candidates: Sequence[Candidate], max_cost: Money | None) -> tuple[Candidate, ...]:
    """Those that cost no more.

    Raises:
        FailedPrecondition: MAX_COST_EXCEEDED, when every one costs more.
    """
    if max_cost is None:
        return tuple(candidates)
    affordable = tuple(candidate for candidate in candidates if candidate.worst_case <= max_cost)
    if not affordable:
        cheapest = min(candidates, key=lambda candidate: candidate.worst_case.micros)
        raise FailedPrecondition(
            f"options.max_cost is {max_cost} and the cheapest candidate, {cheapest.model} on {cheapest.provider}, "
            f"may cost {cheapest.worst_case}",
            reason="MAX_COST_EXCEEDED",
            metadata={"field": "options.max_cost", "cheapest_micros": str(cheapest.worst_case.micros)},
        )
    return affordable


def _fastest(candidate: Candidate) -> tuple[float, float]:
    if candidate.p50_s is None:
        return 1.0, candidate.timeout_s
    return 0.0, candidate.p50_s


ORDERS: Mapping[Goal, Callable[[Candidate], tuple[float, float]]] = {
    Goal.CATALOG: lambda _: (0.0, 0.0),
    Goal.CHEAPEST: lambda candidate: (float(candidate.worst_case.micros), 0.0),
    Goal.FASTEST: _fastest,
    Goal.BEST: lambda candidate: (-float(candidate.quality_rank), 0.0),
}
"""What comes first, by goal; equal candidates keep the catalog's order. Times that nobody observed come last."""
