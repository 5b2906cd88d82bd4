"""Ideogram's models by family: which operation is which path, which fields each takes, and what it can do.

A path is `/v2/image/{verb}/{model}`; the older surface has `/v1/{model}/{verb}`, other words and no order ids.
Sources: developer.ideogram.ai (precise edits as of 2026-10-05) and the vendor's API description of June 2026 (version 1
only), collected 2026-11-20. Upscaling, and that remixes with 4.0 ignore a seed, only from third parties' code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import union
from services.router.providers.options import OptionRule
from services.router.providers.shapes import size_text

Field = Callable[[ProviderCall], Any]
LAST_SEED = 2**31 - 1
MAGIC = {"magic_prompt": OptionRule(str, ("auto", "on", "off"))}
STYLE = {"style_type": OptionRule(str, ("auto", "general", "realistic", "design", "fiction"))}
SHOUTED = ("rendering_speed", "magic_prompt", "style_type")
"""Fields whose words version 1 spells in capitals."""


@dataclass(frozen=True)
class Verb:
    """How one operation is asked for."""

    path: str
    fields: Mapping[str, Field]
    """Fields by name; what is None or "" is left out. Pictures come besides: `image`, `mask`, `reference_images`."""
    sized: bool = False
    """Whether a size can be asked for; else the picture is as large as its source."""
    options: frozenset[str] = frozenset({"magic_prompt", "style_type"})
    """Those of the family's options that this operation takes."""


@dataclass(frozen=True)
class Family:
    """The models that are asked in the same way."""

    verbs: Mapping[str, Verb]
    """By operation."""
    capabilities: Capabilities


def _size(call: ProviderCall) -> str:
    return size_text(call.width, call.height)


def _seed(call: ProviderCall) -> int | None:
    """Seeds have 31 bits there; a longer one loses its first, and the answer tells which one was used."""
    return None if call.seed is None else call.seed & LAST_SEED


def _image_weight(call: ProviderCall) -> int | None:
    """How much of the source stays, 1 to 100: the other way round from a strength."""
    return None if call.strength is None else max(1, round(100 * (1 - call.strength)))


_DRAWN: Mapping[str, Field] = {
    "prompt": lambda call: call.prompt,
    "seed": _seed,
    "num_images": lambda call: call.count if call.count > 1 else None,
}
_PACED: Mapping[str, Field] = {**_DRAWN, "rendering_speed": lambda call: call.quality}
_RESOLVED: Mapping[str, Field] = {**_PACED, "resolution": _size}
_AVOIDING: Mapping[str, Field] = {**_RESOLVED, "negative_prompt": lambda call: call.negative_prompt}
_REMIXED: Mapping[str, Field] = {"image_weight": _image_weight}

_RATED: Mapping[str, Field] = {**_DRAWN, "quality": lambda call: call.quality}
_GENERATE_45 = Verb("generate", {**_RATED, "size": _size}, sized=True)
_PRECISE = Verb("precise-edit", _RATED, options=frozenset())
_INPAINT_3 = Verb("inpaint", _PACED)
_REMIX_4 = Verb("remix", {name: of for name, of in _RESOLVED.items() if name != "seed"} | {**_REMIXED}, sized=True)

_BASE = Capabilities(
    frozenset({"TEXT_TO_IMAGE"}),
    max_count=8,
    seed=True,
    quality=True,
    formats=frozenset({"png"}),
    resumable=True,
    webhooks=True,
    options=MAGIC,
)
_4_5 = replace(_BASE, operations=frozenset({"TEXT_TO_IMAGE", "EDIT", "INPAINT", "OUTPAINT"}), mask=True, max_images=5)
_4 = replace(_BASE, operations=frozenset({"TEXT_TO_IMAGE", "IMAGE_TO_IMAGE"}), strength=True, max_images=1)
_3 = replace(
    _4,
    operations=frozenset({"TEXT_TO_IMAGE", "IMAGE_TO_IMAGE", "INPAINT", "OUTPAINT"}),
    negative_prompt=True,
    options={**MAGIC, **STYLE},
)
_PLAIN = replace(_BASE, max_count=1, max_images=1, seed=False, quality=False, options={})
_TRANSPARENT = replace(_BASE, transparent_background=True)

V2: Mapping[str, Family] = {
    "ideogram-4-5": Family(
        {"TEXT_TO_IMAGE": _GENERATE_45, "EDIT": _PRECISE, "INPAINT": _PRECISE, "OUTPAINT": _PRECISE}, _4_5
    ),
    "ideogram-4": Family(
        {
            "TEXT_TO_IMAGE": Verb("generate", _RESOLVED, sized=True),
            "IMAGE_TO_IMAGE": _REMIX_4,
        },
        _4,
    ),
    "ideogram-4-transparent": Family({"TEXT_TO_IMAGE": Verb("generate", _RESOLVED, sized=True)}, _TRANSPARENT),
    "ideogram-3": Family(
        {
            "TEXT_TO_IMAGE": Verb("generate", _AVOIDING, sized=True),
            "IMAGE_TO_IMAGE": Verb("remix", {**_AVOIDING, **_REMIXED}, sized=True),
            "INPAINT": _INPAINT_3,
            "OUTPAINT": _INPAINT_3,
        },
        _3,
    ),
    "ideogram-3-transparent": Family(
        {"TEXT_TO_IMAGE": Verb("generate", _AVOIDING, sized=True)},
        replace(_TRANSPARENT, negative_prompt=True, options={**MAGIC, **STYLE}),
    ),
    "topaz-standard-2": Family(
        {
            "UPSCALE": Verb(
                "upscale", {"upscale_factor": lambda call: f"x{call.upscale_factor or 2}"}, options=frozenset()
            )
        },
        replace(_PLAIN, operations=frozenset({"UPSCALE"}), upscale_factors=(2, 4, 8)),
    ),
    "ideogram-1": Family(
        {"REMOVE_BACKGROUND": Verb("remove-background", {}, options=frozenset())},
        replace(_PLAIN, operations=frozenset({"REMOVE_BACKGROUND"})),
    ),
}
"""By the model's name, which is its version."""

V1: Mapping[str, Family] = {
    "ideogram-v3": Family(
        {
            "TEXT_TO_IMAGE": Verb("generate", _AVOIDING, sized=True),
            "IMAGE_TO_IMAGE": Verb("remix", {**_AVOIDING, **_REMIXED}, sized=True),
            "INPAINT": Verb("edit", _PACED),
            "OUTPAINT": Verb("edit", _PACED),
        },
        replace(_3, resumable=False, webhooks=False),
    ),
}
"""The same of version 1, which answers in the same call."""
SURFACES: Mapping[str, Mapping[str, Family]] = {"": V2, "v1": V1}
"""By the account's variant."""


@cache
def capabilities(variant: str) -> Capabilities:
    """What the models of a surface can do.

    Raises:
        KeyError: there is no such surface.
    """
    return union(family.capabilities for family in SURFACES[variant].values())


def family_of(surface: Mapping[str, Family], model: str) -> Family:
    """The family of a model.

    Raises:
        ProviderError: BAD_REQUEST when there is none of this name.
    """
    if model not in surface:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"how to ask {model} is not known")
    return surface[model]
