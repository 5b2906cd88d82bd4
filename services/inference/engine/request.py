"""What is to be drawn: as asked for (values may be missing) and as settled against a model (none missing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.inference.engine.errors import RequestRefused, Violation
from services.inference.engine.manifest import Manifest, SizeRule
from services.inference.engine.schedulers import SCHEDULERS

SEEDS = 2**32


@dataclass(frozen=True)
class Wanted:
    """A request as the caller made it; None means that the model's default is wanted."""

    model_id: str
    prompt: str
    request_id: str = ""
    negative_prompt: str = ""
    operation: str = "text_to_image"
    width: int | None = None
    height: int | None = None
    count: int = 1
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = ""


@dataclass(frozen=True)
class DrawRequest:
    """A request in which everything is decided. Sizes in pixels; picture i uses seed + i modulo 2^32."""

    request_id: str
    model_id: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    count: int
    seed: int
    steps: int
    guidance: float
    scheduler: str

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each picture."""
        return tuple((self.seed + index) % SEEDS for index in range(self.count))

    @property
    def guided(self) -> bool:
        """Whether each step looks at the picture twice, with and without the prompt."""
        return self.guidance > 1.0


def settle(wanted: Wanted, manifest: Manifest, draw_seed: Callable[[], int]) -> DrawRequest:
    """Fills in the model's defaults, snaps the size where the model allows it; RequestRefused names every misfit."""
    violations = tuple(_violations(wanted, manifest))
    if violations:
        raise RequestRefused(violations)
    default = manifest.defaults
    return DrawRequest(
        request_id=wanted.request_id,
        model_id=manifest.id,
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        width=manifest.size.snap(wanted.width or default.width),
        height=manifest.size.snap(wanted.height or default.height),
        count=wanted.count,
        seed=draw_seed() if wanted.seed is None else wanted.seed,
        steps=default.steps if wanted.steps is None else wanted.steps,
        guidance=default.guidance if wanted.guidance is None else wanted.guidance,
        scheduler=wanted.scheduler or default.scheduler,
    )


def _violations(wanted: Wanted, manifest: Manifest) -> Iterator[Violation]:
    if wanted.operation not in manifest.capabilities:
        yield Violation("operation", f"{manifest.id} can do {', '.join(manifest.capabilities)}")
    for field, value in (("width", wanted.width), ("height", wanted.height)):
        yield from _size_violations(field, value, manifest.size)
    if wanted.count > manifest.max_count:
        yield Violation("count", f"{manifest.id} draws at most {manifest.max_count} at once")
    scheduler = wanted.scheduler or manifest.defaults.scheduler
    if scheduler not in manifest.schedulers:
        yield Violation("scheduler", f"must be one of {', '.join(manifest.schedulers)}")
        return
    most_steps = min(manifest.max_steps, SCHEDULERS[scheduler].max_steps)
    if wanted.steps is not None and not 1 <= wanted.steps <= most_steps:
        yield Violation("steps", f"must be 1 to {most_steps} with {manifest.id} and {scheduler}")


def _size_violations(field: str, value: int | None, rule: SizeRule) -> Iterator[Violation]:
    if value is None:
        return
    if not rule.min <= value <= rule.max:
        yield Violation(field, f"must be {rule.min} to {rule.max} pixels")
    elif value % rule.factor and rule.policy == "refuse":
        yield Violation(field, f"must be a multiple of {rule.factor}, for example {rule.snap(value)}")
