"""What is to be drawn: as asked for (values may be missing) and as settled against a model (none missing).

Operations, and what each needs besides a prompt:

    text_to_image   nothing
    image_to_image  image; strength
    inpaint         image, mask; strength
    outpaint        image, margins; strength
    control         controls (which every other operation takes too); may begin from an image, with a strength
    upscale         image, upscale_factor; strength
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

SEEDS = 2**32
MAX_PREVIEWS = 16
MAX_CONTROLS = 4
MAX_LORAS = 8


class Lane(Enum):
    """Who waits for the result: a person, or nobody in particular."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


@dataclass(frozen=True)
class ControlInput:
    """An image that steers the drawing: encoded bytes, and how strongly, 0 to 2."""

    kind: str
    image: bytes
    scale: float = 1.0


@dataclass(frozen=True)
class LoraUse:
    """An adapter to apply, and how strongly, -4 to 4."""

    lora_id: str
    scale: float = 1.0


@dataclass(frozen=True)
class Margins:
    """Pixels to add at each side."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __bool__(self) -> bool:
        """Whether there is any margin."""
        return any((self.left, self.top, self.right, self.bottom))


@dataclass(frozen=True)
class Wanted:
    """A request as the caller made it; None means that the model's default is wanted. Images are PNG, JPEG or WebP."""

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
    image: bytes | None = None
    mask: bytes | None = None
    strength: float | None = None
    margins: Margins = field(default_factory=Margins)
    controls: tuple[ControlInput, ...] = ()
    loras: tuple[LoraUse, ...] = ()
    upscale_factor: int | None = None
    lane: Lane = Lane.INTERACTIVE
    previews: int = 0


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
    operation: str = "text_to_image"
    image: bytes | None = None
    mask: bytes | None = None  # white where the image may change
    strength: float = 1.0  # the share of the steps that is made, 0 to 1; 1 without an image
    margins: Margins = field(default_factory=Margins)
    controls: tuple[ControlInput, ...] = ()
    loras: tuple[LoraUse, ...] = ()  # in order of their ids
    lane: Lane = Lane.INTERACTIVE
    previews: int = 0  # looks at each unfinished picture, spread over the steps

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each picture."""
        return tuple((self.seed + index) % SEEDS for index in range(self.count))

    @property
    def guided(self) -> bool:
        """Whether each step looks at the picture twice, with and without the prompt."""
        return self.guidance > 1.0

    @property
    def rows(self) -> int:
        """Rows of the device's batch that one step takes: pictures, twice with guidance."""
        return self.count * (2 if self.guided else 1)

    @property
    def most_facts(self) -> int:
        """The most facts its drawing tells: a bound for queues. Some schedulers make a step more than asked for."""
        return 2 * self.steps + self.count * (1 + self.previews) + 4
