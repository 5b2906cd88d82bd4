"""Firefly's services as data: which path draws an operation with a family of models, and what it can do.

Filling and expanding name no model. Source: the vendor's API description of 2026-05-27.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.firefly_fields import (
    CUSTOM,
    Body,
    Handed,
    drawn,
    expanded,
    filled,
    image5,
    present,
    redrawn,
    similar,
    upscaled,
)
from services.router.providers.fitting import refuse_other_size, refuse_unfit, union
from services.router.providers.options import OptionRule
from services.router.providers.retouch import size_of

FILLED = {(2048, 2048), (1024, 1024), (2304, 1792), (1792, 2304), (2688, 1536), (1344, 768), (1152, 896), (896, 1152)}
"""The only pictures that are filled without being resized."""
EXPANDED = 3999
"""Longest edge of an expanded picture."""


@dataclass(frozen=True)
class Service:
    """How one operation is asked for."""

    path: str
    fields: Callable[[ProviderCall, Handed], Body]
    """What is None, "" or empty is left out."""
    capabilities: Capabilities
    named: bool = True
    """Whether the header says which model."""


def _able(operation: str, **more: Any) -> Capabilities:
    plain = Capabilities(
        frozenset({operation}), max_count=4, seed=True, formats=frozenset(), resumable=True, cancelable=True
    )
    return replace(plain, **more)


_LOCALE = {"locale": OptionRule(str)}
_LOOK = {
    **_LOCALE,
    "content_class": OptionRule(str, ("photo", "art")),
    "visual_intensity": OptionRule(int, low=2, high=10),
}
_IMAGE_5 = {**_LOCALE, "prompt_reasoner": OptionRule(str, ("quality", "speed"))}
SIMILAR = "similar"
"""The option that asks for pictures like the source image alone; the prompt is then not used."""
_GENERATE, _V4 = "/v3/images/generate-async", "/v4/images/generate-async"
_SIMILAR = Service("/v3/images/generate-similar-async", similar, _able("IMAGE_TO_IMAGE", max_images=1))

FAMILIES: Mapping[str, Mapping[str, Service]] = {
    "image3": {
        "TEXT_TO_IMAGE": Service(_GENERATE, drawn, _able("TEXT_TO_IMAGE", negative_prompt=True, options=_LOOK)),
        "CONTROL": Service(
            _GENERATE,
            drawn,
            _able("CONTROL", negative_prompt=True, controls=frozenset({"structure", "style"}), options=_LOOK),
        ),
        "IMAGE_TO_IMAGE": Service(
            _GENERATE,
            redrawn,
            _able(
                "IMAGE_TO_IMAGE",
                negative_prompt=True,
                max_images=1,
                options={**_LOOK, SIMILAR: OptionRule(bool)},
            ),
        ),
    },
    "fill": {
        "INPAINT": Service(
            "/v3/images/fill-async",
            filled,
            _able("INPAINT", negative_prompt=True, max_images=1, options=_LOCALE),
            named=False,
        )
    },
    "expand": {"OUTPAINT": Service("/v3/images/expand-async", expanded, _able("OUTPAINT", max_images=1), named=False)},
    "precise_upsampler": {
        "UPSCALE": Service(
            "/v3/images/upscale",
            upscaled,
            _able("UPSCALE", max_count=1, max_images=1, upscale_factors=(2, 3, 4, 6)),
        )
    },
    "image5": {
        "TEXT_TO_IMAGE": Service(_V4, image5, _able("TEXT_TO_IMAGE", max_count=1, options=_IMAGE_5)),
        "EDIT": Service(_V4, image5, _able("EDIT", max_count=1, max_images=1, options=_IMAGE_5)),
    },
}
"""By the beginning of the model's name; `image4` is asked as `image3`."""
V3 = ("image3", "fill", "expand", "precise_upsampler")
VARIANTS: Mapping[str, tuple[str, ...]] = {"": (*V3, "image5"), "v3": V3, "image5": ("image5",)}


def capabilities(variant: str) -> Capabilities:
    """What at least one model of a variant can do; without a variant, of all.

    Raises:
        KeyError: there is no such variant.
    """
    return union(service.capabilities for name in VARIANTS[variant] for service in FAMILIES[name].values())


def service_of(call: ProviderCall) -> Service:
    """The service that draws a call.

    Raises:
        ProviderError: BAD_REQUEST when there is none, or it does not take something that the call asks for.
    """
    name = call.model.replace("image4", "image3", 1)
    family = next((services for known, services in FAMILIES.items() if name.startswith(known)), {})
    service = family.get(call.operation)
    if service is None:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} does not do {call.operation}")
    if CUSTOM in call.model:
        service = replace(service, capabilities=replace(service.capabilities, negative_prompt=False))
    refuse_unfit(call, service.capabilities)
    if call.options.get(SIMILAR):
        refuse_unfit(replace(call, options={}), _SIMILAR.capabilities)
        return _SIMILAR
    return service


async def sized(call: ProviderCall) -> ProviderCall:
    """The call with the size of its result, where that follows from its source image.

    Raises:
        ProviderError: BAD_REQUEST when another size is asked for, or one that is not drawn.
    """
    if call.operation not in ("INPAINT", "OUTPAINT"):
        return call
    await refuse_other_size(call)
    width, height = await size_of(call.images[0])
    at = call.margins
    width, height = width + at.left + at.right, height + at.top + at.bottom
    if call.operation == "INPAINT" and (width, height) not in FILLED:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"it fills no picture of {width}x{height}")
    if max(width, height) > EXPANDED:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"it expands no picture to {width}x{height}")
    return replace(call, width=width, height=height)


def body_of(service: Service, call: ProviderCall, handed: Handed) -> Body:
    """What is put on the wire."""
    return present(service.fields(call, handed))
