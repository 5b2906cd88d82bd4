"""Where Stability's fields come from in a call. Used by the table of `stability_services`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.router.providers.base import Capabilities, InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_other_size, refuse_unfit
from services.router.providers.shapes import ratio_name

Field = Callable[[ProviderCall], Any]
Picture = Callable[[ProviderCall], InputImage | None]

RATIOS = ("21:9", "16:9", "3:2", "5:4", "1:1", "4:5", "2:3", "9:16", "9:21")
LAST_SEED = 4_294_967_294
HALFWAY = 0.5
"""Strength where none is asked for: the services have no default of their own and refuse a call without it."""


@dataclass(frozen=True)
class Service:
    """One service of the vendor."""

    path: str
    """Behind `/v2beta/stable-image/` at the vendor's own API."""
    capabilities: Capabilities
    fields: Mapping[str, Field]
    """Fields by name; what is None or "" is left out."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """Pictures by field."""
    needs: tuple[str, ...] = ()
    """Fields without which the vendor refuses the call."""
    asynchronous: bool = False
    """Whether the vendor's own API answers with an id to ask for; Amazon's never does."""


def seed(call: ProviderCall) -> int | None:
    """0 would mean any seed, and the last one of 32 bits is not taken: both go to their neighbour."""
    return None if call.seed is None else min(max(call.seed, 1), LAST_SEED)


def ratio(call: ProviderCall) -> str:
    """The name of the aspect ratio, where a size is asked for."""
    return ratio_name(call.width, call.height, RATIOS) if call.width else ""


def drawn_ratio(call: ProviderCall) -> str:
    """The same, where nothing but text is given: a picture redrawn keeps its own."""
    return "" if call.images else ratio(call)


def strength(call: ProviderCall) -> float | None:
    """How far to leave the source image."""
    if not call.images:
        return None
    return HALFWAY if call.strength is None else call.strength


def mode(call: ProviderCall) -> str:
    """Stable Diffusion's name for starting from a picture or not."""
    return "image-to-image" if call.images else "text-to-image"


def scale(call: ProviderCall) -> float | None:
    """How strongly a control binds, 0 to 1 here."""
    scale = call.controls[0].scale if call.controls else None
    if scale is not None and scale > 1:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} takes a control's scale of 0 to 1")
    return scale


def source(place: int) -> Picture:
    """Source image number `place`, counted from 0."""
    return lambda call: call.images[place] if len(call.images) > place else None


def guide(call: ProviderCall) -> InputImage | None:
    """The control's picture."""
    return call.controls[0].image if call.controls else None


def prompt(call: ProviderCall) -> str:
    """The prompt."""
    return call.prompt


@dataclass(frozen=True)
class Filled:
    """A call in a service's fields."""

    texts: Mapping[str, Any]
    pictures: Mapping[str, InputImage]


async def filled(service: Service, call: ProviderCall) -> Filled:
    """The fields that a call puts on the wire.

    Raises:
        ProviderError: BAD_REQUEST when the service does not take something of it, or needs more.
    """
    refuse_unfit(call, service.capabilities)
    if len(call.controls) > 1:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} takes one control")
    found = {name: of(call) for name, of in service.fields.items()} | dict(call.options)
    texts = {name: value for name, value in found.items() if value not in (None, "")}
    given = {name: of(call) for name, of in service.pictures.items()}
    pictures = {name: picture for name, picture in given.items() if picture is not None}
    if missing := [name for name in service.needs if name not in texts and name not in pictures]:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} needs {', '.join(missing)}")
    if "aspect_ratio" not in texts:
        await refuse_other_size(call)
    return Filled(texts, pictures)
