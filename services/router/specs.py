"""What a caller asks for, as frozen values. Field meanings, units and bounds are those of `imagemesh.router.v1`.

`None` means that the caller did not say. Enums spell their values as the contract does, without prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.router.money import Money

AUTO = "auto"
"""The model name that leaves the choice to the routing policy."""


class Operation(StrEnum):
    """What is done to make the pictures."""

    TEXT_TO_IMAGE = "TEXT_TO_IMAGE"
    IMAGE_TO_IMAGE = "IMAGE_TO_IMAGE"
    INPAINT = "INPAINT"
    OUTPAINT = "OUTPAINT"
    CONTROL = "CONTROL"
    EDIT = "EDIT"
    UPSCALE = "UPSCALE"
    REMOVE_BACKGROUND = "REMOVE_BACKGROUND"


class Lane(StrEnum):
    """Which queue a job waits in."""

    INTERACTIVE = "INTERACTIVE"
    BATCH = "BATCH"


class Goal(StrEnum):
    """The order of candidates; CATALOG keeps the catalog's."""

    CATALOG = "CATALOG"
    CHEAPEST = "CHEAPEST"
    FASTEST = "FASTEST"
    BEST = "BEST"


class OnUnknown(StrEnum):
    """What to do when an attempt's outcome is not known."""

    NEXT = "NEXT"
    FAIL = "FAIL"


class CachePolicy(StrEnum):
    """Whether an earlier result may serve the job."""

    USE = "USE"
    BYPASS = "BYPASS"
    REFRESH = "REFRESH"


DEFAULT_DEADLINE_S: Mapping[Lane, float] = {Lane.INTERACTIVE: 600.0, Lane.BATCH: 86_400.0}


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A source image: exactly one of the three is given. Inline bytes never stay in a stored spec."""

    asset_id: str = ""
    inline: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Control:
    """A guide for the drawing. scale: how strongly it binds, 0 to 2; None: the provider's default."""

    kind: str
    image: ImageInput
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class Lora:
    """A fine-tune laid over the model. scale: how strongly it shows, -2 to 2; None: the provider's default."""

    lora_id: str
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class Margins:
    """Pixels that OUTPAINT adds at each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """How the stored original is encoded; empty and 0: as the provider makes it."""

    format: str = ""
    quality: int = 0
    transparent_background: bool = False


ProviderOptions = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class GenerationSpec:
    """What to draw. `seed` is filled in before the spec is stored."""

    prompt: str
    operation: Operation = Operation.TEXT_TO_IMAGE
    negative_prompt: str = ""
    model: str = AUTO
    model_version: str = ""
    size: Size | None = None
    aspect_ratio: str = ""
    count: int = 1
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    scheduler: str = ""
    strength: float | None = None
    images: tuple[ImageInput, ...] = ()
    mask: ImageInput | None = None
    controls: tuple[Control, ...] = ()
    loras: tuple[Lora, ...] = ()
    margins: Margins | None = None
    upscale_factor: int = 0
    output: Output = Output()
    provider_options: ProviderOptions = field(default_factory=dict)

    @property
    def keeps_size(self) -> bool:
        """Whether the result's size follows from a source image: it starts from one, and no size was asked for."""
        return self.operation is not Operation.TEXT_TO_IMAGE and self.size is None and not self.aspect_ratio


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a job may run."""

    goal: Goal = Goal.CATALOG
    strengths: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    fallback: bool = True
    on_unknown: OnUnknown = OnUnknown.NEXT
    hedge: bool = False
    may_drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How to run a job. `cache` and `deadline_s` are None when the default is to apply."""

    lane: Lane = Lane.INTERACTIVE
    routing: Routing = Routing()
    cache: CachePolicy | None = None
    deadline_s: float | None = None
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_cost: Money | None = None


def effective_cache(options: JobOptions, *, seed_given: bool) -> CachePolicy:
    """The cache policy that applies: as asked, else USE when the caller gave a seed, else BYPASS."""
    if options.cache is not None:
        return options.cache
    return CachePolicy.USE if seed_given else CachePolicy.BYPASS


def effective_deadline_s(options: JobOptions) -> float:
    """Seconds from creation for queueing and attempts: as asked, else the lane's default."""
    return DEFAULT_DEADLINE_S[options.lane] if options.deadline_s is None else options.deadline_s


def picture_seed(seed: int, index: int) -> int:
    """The seed of picture `index`: seed + index, modulo 2^32."""
    return (seed + index) % 2**32
