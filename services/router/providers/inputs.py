"""Aggregators serve many makers' models, and each model names its inputs as it likes: dialects say which, as data.

A dialect maps terms (what of a call) to the model's own input names. It is chosen by the model's id; a model that is
nowhere described gets the vendor's default. An operator describes a model in the catalog without code:

    settings: {"inputs:acme/painter": "prompt=text size=image_size mask!=mask"}   terms and inputs
    settings: {"inputs:acme/painter": "flux"}                                      or a dialect by name

`!` after `mask` says that the model changes what is BLACK. What a call asks for and the dialect has no term for is
refused, never left out silently.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.router.providers.base import InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.retouch import inverted, padded
from services.router.providers.shapes import ratio_name, size_text

SETTING = "inputs:"
"""Settings of this beginning describe the model that follows it."""
UNPROMPTED = frozenset({"UPSCALE", "REMOVE_BACKGROUND"})
"""Operations whose models take no prompt; the vendors' upscalers refuse the field."""

HandIn = Callable[[InputImage], Awaitable[str]]
"""Gives the vendor a picture; the address or data URL to name it by."""


@dataclass(frozen=True)
class Dialect:
    """How a model wants to be asked."""

    inputs: Mapping[str, str]
    """The model's input by term (`TERMS`)."""
    ratios: tuple[str, ...] = ()
    """Names of aspect ratios it takes, for the term `aspect_ratio`."""
    formats: Mapping[str, str] = field(default_factory=dict)
    """Its word for a format where that is another (`jpeg`: `jpg`)."""
    schedulers: Mapping[str, str] = field(default_factory=dict)
    """Its words for the mesh's schedulers; any other one is sent as it is."""
    black_mask: bool = False
    """Whether it changes what is black in a mask; the mesh's masks are white there."""


@dataclass(frozen=True)
class Material:
    """A call whose pictures the vendor has."""

    call: ProviderCall
    dialect: Dialect
    images: tuple[str, ...] = ()
    mask: str = ""
    control: str = ""


Term = Callable[[Material], Any]


def _aspect_ratio(of: Material) -> str:
    return ratio_name(of.call.width, of.call.height, of.dialect.ratios) if of.call.width else ""


def _size(of: Material) -> dict[str, int] | None:
    return {"width": of.call.width, "height": of.call.height} if of.call.width else None


TERMS: Mapping[str, Term] = {
    "prompt": lambda of: "" if of.call.operation in UNPROMPTED else of.call.prompt,
    "negative_prompt": lambda of: of.call.negative_prompt,
    "count": lambda of: of.call.count,
    "many": lambda of: of.call.count if of.call.count > 1 else None,
    "seed": lambda of: of.call.seed,
    "width": lambda of: of.call.width or None,
    "height": lambda of: of.call.height or None,
    "size": _size,
    "size_text": lambda of: size_text(of.call.width, of.call.height),
    "aspect_ratio": _aspect_ratio,
    "custom": lambda of: "custom" if of.call.width else None,
    "steps": lambda of: of.call.steps,
    "guidance": lambda of: of.call.guidance,
    "scheduler": lambda of: of.dialect.schedulers.get(of.call.scheduler, of.call.scheduler),
    "style": lambda of: of.call.style,
    "quality": lambda of: of.call.quality,
    "strength": lambda of: of.call.strength,
    "format": lambda of: of.dialect.formats.get(of.call.output_format, of.call.output_format),
    "compression": lambda of: of.call.compression or None,
    "image": lambda of: of.images[0] if of.images else None,
    "images": lambda of: list(of.images) or None,
    "mask": lambda of: of.mask,
    "control": lambda of: of.control,
    "control_scale": lambda of: of.call.controls[0].scale if of.call.controls else None,
    "factor": lambda of: of.call.upscale_factor or None,
}
"""What a term is; None and "" are left out. `count` always says how many, `many` only when it is more than one;
`custom` is the word that some models want beside `width` and `height`."""

Demand = tuple[str, Callable[[ProviderCall], bool], tuple[str, ...]]

DEMANDS: tuple[Demand, ...] = (
    ("negative prompt", lambda call: bool(call.negative_prompt), ("negative_prompt",)),
    ("seed", lambda call: call.seed is not None, ("seed",)),
    ("size", lambda call: bool(call.width), ("width", "size", "size_text", "aspect_ratio")),
    ("steps", lambda call: call.steps is not None, ("steps",)),
    ("guidance", lambda call: call.guidance is not None, ("guidance",)),
    ("scheduler", lambda call: bool(call.scheduler), ("scheduler",)),
    ("strength", lambda call: call.strength is not None, ("strength",)),
    ("count above one", lambda call: call.count > 1, ("count", "many")),
    ("image", lambda call: bool(call.images), ("image", "images")),
    ("second image", lambda call: len(call.images) > 1, ("images",)),
    ("mask", lambda call: call.mask is not None or call.operation == "OUTPAINT", ("mask",)),
    ("control", lambda call: bool(call.controls), ("control",)),
    ("second control", lambda call: len(call.controls) > 1, ()),
    ("scale of a control", lambda call: any(c.scale is not None for c in call.controls), ("control_scale",)),
    ("upscale factor", lambda call: bool(call.upscale_factor), ("factor",)),
)
"""What a call may ask for, and the terms of which one must be there."""


async def inputs_of(call: ProviderCall, dialect: Dialect, hand_in: HandIn) -> dict[str, Any]:
    """The model's inputs for a call, its pictures handed in.

    Raises:
        ProviderError: BAD_REQUEST when the model has no input for what is asked; whatever `hand_in` raises.
    """
    _refuse_missing(call, dialect)
    images, mask = call.images, call.mask
    if call.operation == "OUTPAINT":
        first, mask = await padded(images[0], call.margins)
        images = (first, *images[1:])
    if mask is not None and dialect.black_mask:
        mask = await inverted(mask)
    material = Material(
        call,
        dialect,
        images=tuple([await hand_in(image) for image in images]),
        mask="" if mask is None else await hand_in(mask),
        control=await hand_in(call.controls[0].image) if call.controls else "",
    )
    asked = {name: TERMS[term](material) for term, name in dialect.inputs.items()}
    return {name: value for name, value in asked.items() if value not in (None, "")} | dict(call.options)


def _refuse_missing(call: ProviderCall, dialect: Dialect) -> None:
    missing = [
        what for what, asked, terms in DEMANDS if asked(call) and not any(term in dialect.inputs for term in terms)
    ]
    if missing:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} takes no {', no '.join(missing)}")


class Dialects:
    """Which dialect a model speaks."""

    def __init__(self, known: Mapping[str, Dialect], models: Mapping[str, str], settings: Mapping[str, str]) -> None:
        """`models`: names in `known` by the beginning of a model's id, "" for all others; `settings`: the account's.

        Raises:
            ValueError: a setting names no dialect, or a term that nobody knows.
        """
        self._known = known
        self._models = models
        self._described = {
            name.removeprefix(SETTING): self._described_as(text)
            for name, text in settings.items()
            if name.startswith(SETTING)
        }

    def of(self, model: str) -> Dialect:
        """The model's: as the account describes it, else by the longest known beginning of its id."""
        bare = model.partition(":")[0]
        if bare in self._described:
            return self._described[bare]
        return self._known[self._models[max((known for known in self._models if bare.startswith(known)), key=len)]]

    def _described_as(self, text: str) -> Dialect:
        if text in self._known:
            return self._known[text]
        pairs = [pair.partition("=") for pair in text.split()]
        inputs = {term.removesuffix("!"): name for term, _, name in pairs}
        if unknown := [term for term, name in inputs.items() if term not in TERMS or not name]:
            raise ValueError(f"{SETTING} {text!r}: not a dialect, and {unknown[0]!r} is no term")
        return Dialect(inputs, black_mask=any(term == "mask!" for term, _, _ in pairs))
