"""What a route can draw, and whether a spec fits it. A misfit names the field and what the route takes instead."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.router.specs import GenerationSpec, Operation, Size

RATIO_TOLERANCE = 0.05
"""How far the ratio of a supported size may be from the one asked for; beyond it the route does not fit."""

ANY = "*"


def _size(text: object) -> object:
    if isinstance(text, str) and re.fullmatch(r"\d{1,5}x\d{1,5}", text):
        width, height = text.split("x")
        return Size(int(width), int(height))
    if isinstance(text, Size):
        return text
    raise ValueError(f"must look like 1024x768, not {text!r}")


SizeText = Annotated[Size, BeforeValidator(_size)]


class Capabilities(BaseModel):
    """What a route takes. Either `sizes` lists every size, or the bounds of the edges say which are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: frozenset[Operation] = frozenset({Operation.TEXT_TO_IMAGE})
    sizes: tuple[SizeText, ...] = ()
    min_edge: int = Field(16, ge=1, le=8192)
    """Smallest width and height in pixels."""
    max_edge: int = Field(8192, ge=1, le=8192)
    """Largest width and height in pixels."""
    edge_step: int = Field(1, ge=1, le=1024)
    """Width and height are multiples of this."""
    max_pixels: int = Field(0, ge=0)
    """Most pixels in all; 0: bound by the edges only."""
    max_ratio: float = Field(0.0, ge=0)
    """Longer edge / shorter edge; 0: any."""
    default_size: SizeText
    count_per_call: int = Field(1, ge=1, le=10)
    max_prompt: int = Field(32_000, ge=1, le=32_000)
    """Longest prompt in characters."""
    seed: bool = False
    negative_prompt: bool = False
    guidance: bool = False
    max_steps: int = Field(0, ge=0, le=500)
    """0: takes no steps."""
    default_steps: int = Field(0, ge=0, le=500)
    """Steps drawn when none were asked for; 0: not known."""
    schedulers: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("png",)
    """The default first."""
    transparent_background: bool = False
    max_images: int = Field(0, ge=0, le=16)
    mask: bool = False
    """Whether EDIT takes a mask; INPAINT always does."""
    strength: bool = False
    controls: frozenset[str] = frozenset()
    """Kinds of `Control` it takes."""
    loras: frozenset[str] = frozenset()
    """Fine-tunes it can lay over the model; `*`: all that our own engine has now."""
    upscale_factors: tuple[int, ...] = ()
    """Factors that UPSCALE takes, the default first; empty: takes none but its own."""
    input_size: SizeText | None = None
    """Size that prices by size count with when the result keeps its source image's; None: `default_size`."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_edge > self.max_edge:
            raise ValueError("min_edge must not be above max_edge")
        if not self.takes(self.default_size):
            raise ValueError(f"default_size {self.default_size} is not a size that is taken")
        if self.default_steps > self.max_steps:
            raise ValueError("default_steps must not be above max_steps")
        return self

    def takes(self, size: Size) -> bool:
        """Whether a picture of this size can be drawn."""
        if self.sizes:
            return size in self.sizes
        edges = (size.width, size.height)
        return (
            all(self.min_edge <= edge <= self.max_edge and edge % self.edge_step == 0 for edge in edges)
            and (not self.max_pixels or size.pixels <= self.max_pixels)
            and (not self.max_ratio or max(edges) <= self.max_ratio * min(edges))
        )

    def size_text(self) -> str:
        """The sizes that are taken, for people."""
        if self.sizes:
            return " or ".join(map(str, self.sizes))
        text = f"{self.min_edge} to {self.max_edge} pixels"
        return text if self.edge_step == 1 else f"{text} in steps of {self.edge_step}"


@dataclass(frozen=True, slots=True)
class Misfit:
    """One field of a spec that a route cannot honour, and what it takes."""

    field: str
    takes: str


Demand = tuple[str, Callable[[GenerationSpec, Capabilities], bool], Callable[[Capabilities], str]]

DEMANDS: tuple[Demand, ...] = (
    (
        "operation",
        lambda spec, route: spec.operation in route.operations,
        lambda route: "takes " + ", ".join(sorted(route.operations)),
    ),
    (
        "prompt",
        lambda spec, route: len(spec.prompt) <= route.max_prompt,
        lambda route: f"takes at most {route.max_prompt} characters",
    ),
    (
        "negative_prompt",
        lambda spec, route: not spec.negative_prompt or route.negative_prompt,
        lambda _: "takes no negative prompt",
    ),
    (
        "steps",
        lambda spec, route: spec.steps is None or spec.steps <= route.max_steps,
        lambda route: f"takes at most {route.max_steps} steps" if route.max_steps else "takes no steps",
    ),
    (
        "guidance",
        lambda spec, route: spec.guidance is None or route.guidance,
        lambda _: "takes no guidance",
    ),
    (
        "scheduler",
        lambda spec, route: not spec.scheduler or spec.scheduler in route.schedulers,
        lambda route: "takes " + (", ".join(route.schedulers) or "no scheduler"),
    ),
    (
        "strength",
        lambda spec, route: spec.strength is None or route.strength,
        lambda _: "takes no strength",
    ),
    (
        "images",
        lambda spec, route: len(spec.images) <= route.max_images,
        lambda route: f"takes at most {route.max_images} images",
    ),
    (
        "mask",
        lambda spec, route: spec.mask is None or route.mask or spec.operation is Operation.INPAINT,
        lambda _: "takes no mask",
    ),
    (
        "controls",
        lambda spec, route: all(control.kind in route.controls for control in spec.controls),
        lambda route: "takes " + (", ".join(sorted(route.controls)) or "no controls"),
    ),
    (
        "loras",
        lambda spec, route: ANY in route.loras or all(lora.lora_id in route.loras for lora in spec.loras),
        lambda route: "takes " + (", ".join(sorted(route.loras)) or "no fine-tunes"),
    ),
    (
        "upscale_factor",
        lambda spec, route: not spec.upscale_factor or spec.upscale_factor in route.upscale_factors,
        lambda route: "takes " + (" or ".join(map(str, route.upscale_factors)) or "only its own factor"),
    ),
    (
        "output.format",
        lambda spec, route: not spec.output.format or spec.output.format in route.formats,
        lambda route: "delivers " + ", ".join(route.formats),
    ),
    (
        "output.transparent_background",
        lambda spec, route: not spec.output.transparent_background or route.transparent_background,
        lambda _: "draws no transparent background",
    ),
)


def misfits(spec: GenerationSpec, route: Capabilities, *, seed_given: bool) -> Iterator[Misfit]:
    """Every field that the route cannot honour. A seed that the mesh drew itself excludes nobody."""
    for field, fits, takes in DEMANDS:
        if not fits(spec, route):
            yield Misfit(f"spec.{field}", takes(route))
    if seed_given and not route.seed:
        yield Misfit("spec.seed", "takes no seed")
    if size_for(spec, route) is None:
        field = "size" if spec.size is not None else "aspect_ratio"
        yield Misfit(f"spec.{field}", f"takes {route.size_text()}")


def size_for(spec: GenerationSpec, route: Capabilities) -> Size | None:
    """The size the route would draw; None when it cannot take what was asked for."""
    if spec.size is not None:
        return spec.size if route.takes(spec.size) else None
    if spec.aspect_ratio:
        return _size_of_ratio(spec.aspect_ratio, route)
    if spec.keeps_size:
        return route.input_size or route.default_size
    return route.default_size


@lru_cache(maxsize=1024)
def _size_of_ratio(ratio_text: str, route: Capabilities) -> Size | None:
    """Among the sizes within the tolerance of the ratio: nearest to the default area, then to the ratio."""
    width, height = (int(part) for part in ratio_text.split(":"))
    ratio, area = width / height, route.default_size.pixels
    fitting = [
        size for size in sizes_of_ratio(ratio, route) if abs(size.width / size.height / ratio - 1) <= RATIO_TOLERANCE
    ]

    def distance(size: Size) -> tuple[float, float]:
        return abs(math.log(size.pixels / area)), abs(size.width / size.height / ratio - 1)

    return min(fitting, key=distance, default=None)


def sizes_of_ratio(ratio: float, route: Capabilities) -> Iterator[Size]:
    """Sizes that the route takes: all that it lists, else of those within its bounds the ones about as wide."""
    if route.sizes:
        yield from route.sizes
        return
    step = route.edge_step
    for height in range(math.ceil(route.min_edge / step) * step, route.max_edge + 1, step):
        size = Size(round(height * ratio / step) * step, height)
        if route.takes(size):
            yield size
