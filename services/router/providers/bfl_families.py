"""The FLUX models by family: which fields each takes, and what it can do. Data for `bfl`.

Sources: the vendor's API description of 2026-05 and docs.bfl.ai, collected 2026-11-20; `flux-3-image` from documents of
2026-10-04 as a third party quotes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import union
from services.router.providers.options import OptionRule
from services.router.providers.shapes import ratio_name

Body = dict[str, Any]

RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
RATIOS_3 = (*RATIOS, "2:1", "1:2", "7:5", "5:7", "5:4", "4:5")
"""Those of FLUX.3."""
RESOLUTIONS: Mapping[int, str] = {768: "768sq", 1024: "1k", 1536: "1.5k", 2048: "2k", 4096: "4k"}
"""FLUX.3's names by the edge of the square with as many pixels."""


@dataclass(frozen=True)
class Family:
    """How the models of one family are asked."""

    fields: Callable[[ProviderCall], Body]
    """Fields of their own; what is None or "" is left out."""
    sources: Callable[[list[str], str], Body]
    """Fields of the source images and the mask, both in base64."""
    capabilities: Capabilities


def _pixels(call: ProviderCall) -> Body:
    return {"width": call.width or None, "height": call.height or None, "output_format": call.output_format}


def _tuned(call: ProviderCall) -> Body:
    return {"steps": call.steps, "guidance": call.guidance, "output_format": call.output_format}


def _shape(call: ProviderCall) -> Body:
    return {"aspect_ratio": _ratio(call), "output_format": call.output_format}


def _ratio(call: ProviderCall) -> str:
    return ratio_name(call.width, call.height, RATIOS) if call.width else ""


def _named_resolution(call: ProviderCall) -> Body:
    if not call.width:
        return {"seed": None}
    edge = math.sqrt(call.width * call.height)
    nearest = min(RESOLUTIONS, key=lambda known: abs(math.log(known / edge)))
    if abs(math.log(nearest / edge)) > math.log(1.1):
        raise ProviderError(ErrorKind.BAD_REQUEST, f"it draws no picture of {call.width}x{call.height}")
    return {
        "seed": None,
        "aspect_ratio": ratio_name(call.width, call.height, RATIOS_3),
        "resolution": RESOLUTIONS[nearest],
    }


def _margins(call: ProviderCall) -> Body:
    at = call.margins
    return {**_tuned(call), "top": at.top, "bottom": at.bottom, "left": at.left, "right": at.right}


def _numbered(images: list[str], _mask: str) -> Body:
    return {"input_image" + (f"_{place}" if place > 1 else ""): image for place, image in enumerate(images, 1)}


def _one(images: list[str], mask: str) -> Body:
    return {"image": images[0], "mask": mask}


def _listed(images: list[str], _mask: str) -> Body:
    return {"images": images or None}


def _none(_images: list[str], _mask: str) -> Body:
    return {}


_FLAG = OptionRule(bool)
_BASE = Capabilities(
    frozenset({"TEXT_TO_IMAGE"}),
    max_count=1,
    seed=True,
    formats=frozenset({"png", "jpeg"}),
    resumable=True,
    progress=True,
    webhooks=True,
)
_UPSAMPLING = {"prompt_upsampling": _FLAG}
_WITH_EDIT = replace(_BASE, operations=frozenset({"TEXT_TO_IMAGE", "EDIT"}), max_images=4)
_FLUX_2 = replace(_WITH_EDIT, formats=frozenset({"png", "jpeg", "webp"}), max_images=8)
_TUNED = replace(_BASE, steps=True, guidance=True, options=_UPSAMPLING)

FAMILIES: Mapping[str, Family] = {
    "flux-2": Family(_pixels, _numbered, _FLUX_2),
    "flux-2-klein": Family(_pixels, _numbered, replace(_FLUX_2, max_images=4)),
    "flux-2-flex": Family(
        lambda call: {**_pixels(call), **_tuned(call)},
        _numbered,
        replace(_FLUX_2, steps=True, guidance=True, options=_UPSAMPLING),
    ),
    "flux-3-image": Family(
        _named_resolution,
        _listed,
        replace(_WITH_EDIT, seed=False, formats=frozenset(), max_images=10, options={"grounding": _FLAG}),
    ),
    "flux-pro-1.1": Family(_pixels, _none, replace(_BASE, options=_UPSAMPLING)),
    "flux-pro-1.1-ultra": Family(_shape, _none, replace(_BASE, options={**_UPSAMPLING, "raw": _FLAG})),
    "flux-dev": Family(lambda call: {**_pixels(call), **_tuned(call)}, _none, _TUNED),
    "flux-kontext": Family(_shape, _numbered, replace(_WITH_EDIT, options=_UPSAMPLING)),
    "flux-pro-1.0-fill": Family(
        _tuned, _one, replace(_TUNED, operations=frozenset({"INPAINT"}), max_images=1, mask=False)
    ),
    "flux-pro-1.0-expand": Family(_margins, _one, replace(_TUNED, operations=frozenset({"OUTPAINT"}), max_images=1)),
}
"""By the beginning of the model's name; the longest that fits counts."""


@cache
def capabilities(variant: str) -> Capabilities:
    """What a family's models can do; without a variant, what any of them can.

    Raises:
        KeyError: there is no such family.
    """
    return FAMILIES[variant].capabilities if variant else union(one.capabilities for one in FAMILIES.values())


def family_of(model: str) -> Family:
    """The family by the beginning of a model's name.

    Raises:
        ProviderError: BAD_REQUEST when there is none.
    """
    fitting = [name for name in FAMILIES if model.startswith(name)]
    if not fitting:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"no family of models is known for {model}")
    return FAMILIES[max(fitting, key=len)]
