"""What a caller may ask for besides the prompt, and its form in the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from google.protobuf import duration_pb2
from google.type import money_pb2

from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

CACHE = {
    "": job_pb2.CACHE_POLICY_UNSPECIFIED,
    "use": job_pb2.CACHE_POLICY_USE,
    "bypass": job_pb2.CACHE_POLICY_BYPASS,
    "refresh": job_pb2.CACHE_POLICY_REFRESH,
}
GOALS = {
    "": job_pb2.GOAL_UNSPECIFIED,
    "cheapest": job_pb2.GOAL_CHEAPEST,
    "fastest": job_pb2.GOAL_FASTEST,
    "best": job_pb2.GOAL_BEST,
}
NANOS = 1_000_000_000


@dataclass(frozen=True)
class Options:
    """Everything has the mesh's default. For what is missing here, fill `spec` and `options` messages by hand.

    model: `auto` or a catalog id. size: width and height in pixels; not with aspect_ratio (`16:9`). count: 1 to 10.
    seed: of the first picture; the same seed draws the same picture. cache: `use`, `bypass`, `refresh`, or empty for
    the mesh's default (use when a seed is given). deadline: seconds for queueing and drawing, default 600. max_cost:
    the most the job may cost, as `0.05` (US dollars) or `0.05 EUR`. goal: `cheapest`, `fastest`, `best`, or empty for
    the catalog's order. strengths, allow, deny, may_drop: as `Routing` in the contract. user: on whose behalf. labels:
    for finding it.

    operation: `edit`, `inpaint`, `outpaint`, `upscale`, … as in the contract; empty: control when there are controls,
    else edit when there are images, else text to image. images, mask: bytes (2 MiB in all, guides included), an https
    address, or an asset id. outpaint: pixels to add at the left, top, right and bottom. strength: how far to leave the
    image, 0 to 1. controls: pairs of a kind that the model lists (`edges`) and a guide, given like an image. loras:
    pairs of an id that the model lists and how strongly it shows, -2 to 2.
    """

    negative_prompt: str = ""
    model: str = ""
    model_version: str = ""
    size: tuple[int, int] | None = None
    aspect_ratio: str = ""
    count: int = 0
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = ""
    cache: str = ""
    deadline: float | None = None
    max_cost: str = ""
    goal: str = ""
    strengths: Sequence[str] = ()
    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    may_drop: Sequence[str] = ()
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    operation: str = ""
    images: Sequence[bytes | str] = ()
    mask: bytes | str = ""
    strength: float | None = None
    outpaint: tuple[int, int, int, int] | None = None
    upscale_factor: int = 0
    controls: Sequence[tuple[str, bytes | str]] = ()
    loras: Sequence[tuple[str, float]] = ()


def to_spec(prompt: str, options: Options) -> job_pb2.GenerationSpec:
    """The spec. Raises ValueError for what the contract has no form for; ranges are the mesh's to judge."""
    if options.size and options.aspect_ratio:
        raise ValueError("size and aspect_ratio exclude each other")
    spec = job_pb2.GenerationSpec(
        prompt=prompt,
        negative_prompt=options.negative_prompt,
        model=options.model,
        model_version=options.model_version,
        count=options.count,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
        scheduler=options.scheduler,
        operation=to_operation(options),
        images=[to_source(image) for image in options.images],
        strength=options.strength,
        upscale_factor=options.upscale_factor,
        controls=[job_pb2.Control(kind=kind, image=to_source(guide)) for kind, guide in options.controls],
        loras=[job_pb2.Lora(lora_id=name, scale=scale) for name, scale in options.loras],
    )
    if options.mask:
        spec.mask.CopyFrom(to_source(options.mask))
    if options.outpaint:
        left, top, right, bottom = options.outpaint
        spec.outpaint.CopyFrom(job_pb2.OutpaintMargins(left=left, top=top, right=right, bottom=bottom))
    if options.size:
        spec.size.width, spec.size.height = options.size
    if options.aspect_ratio:
        spec.aspect_ratio = options.aspect_ratio
    return spec


def to_operation(options: Options) -> job_pb2.Operation.ValueType:
    """The operation by its name, or what the pictures suggest. Raises ValueError for one that nobody knows."""
    if not options.operation and options.controls:
        return job_pb2.OPERATION_CONTROL
    if not options.operation:
        return job_pb2.OPERATION_EDIT if options.images else job_pb2.OPERATION_UNSPECIFIED
    try:
        return job_pb2.Operation.Value("OPERATION_" + options.operation.upper().replace("-", "_"))
    except ValueError as error:
        names = ", ".join(name.removeprefix("OPERATION_").lower() for name in job_pb2.Operation.keys()[1:])
        raise ValueError(f"operation is {options.operation!r}; it may be {names}") from error


def to_source(image: bytes | str) -> image_pb2.ImageSource:
    """Bytes as they are; a text is an address or the id of an asset."""
    if isinstance(image, bytes):
        return image_pb2.ImageSource(inline=image)
    return image_pb2.ImageSource(url=image) if "://" in image else image_pb2.ImageSource(asset_id=image)


def to_job_options(options: Options) -> job_pb2.JobOptions:
    """How to run it. Raises ValueError as `to_spec`."""
    if options.cache not in CACHE:
        raise ValueError(f"cache is {options.cache!r}; it may be use, bypass or refresh")
    message = job_pb2.JobOptions(cache=CACHE[options.cache], user=options.user, labels=options.labels)
    if options.goal not in GOALS:
        raise ValueError(f"goal is {options.goal!r}; it may be cheapest, fastest or best")
    routing = job_pb2.Routing(
        goal=GOALS[options.goal],
        strengths=options.strengths,
        allow=options.allow,
        deny=options.deny,
        may_drop=options.may_drop,
    )
    if routing.ListFields():
        message.routing.CopyFrom(routing)
    if options.deadline is not None:
        message.deadline.CopyFrom(to_duration(options.deadline))
    if options.max_cost:
        message.max_cost.CopyFrom(to_money(options.max_cost))
    return message


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a message."""
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * NANOS))
    return duration


def to_money(text: str) -> money_pb2.Money:
    """`0.05` or `0.05 EUR`; exact, never through a float. Raises ValueError."""
    amount, _, currency = text.strip().partition(" ")
    try:
        value = Decimal(amount)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value * NANOS != int(value * NANOS):
        raise ValueError(f"{text!r} is no amount of money; write 0.05 or 0.05 EUR")
    units = int(value)
    return money_pb2.Money(
        currency_code=(currency.strip() or "USD").upper(), units=units, nanos=int((value - units) * NANOS)
    )


def from_money(money: money_pb2.Money) -> Decimal:
    """The exact amount, without its currency."""
    return Decimal(money.units) + Decimal(money.nanos) / NANOS
