"""Stability's services as data: which fields each takes, and what it can do.

The vendor's own API (`stability`) and Amazon's (`bedrock`) take the same fields; only names of services, the outer form
and the errors differ. Source: the vendor's API description as collected 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from services.router.providers.base import Capabilities
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.options import OptionRule
from services.router.providers.stability_fields import (
    Field,
    Picture,
    Service,
    drawn_ratio,
    guide,
    mode,
    prompt,
    ratio,
    scale,
    seed,
    source,
    strength,
)

PRESETS = (
    *("3d-model", "analog-film", "anime", "cinematic", "comic-book", "digital-art", "enhance", "fantasy-art"),
    *("isometric", "line-art", "low-poly", "modeling-compound", "neon-punk", "origami", "photographic", "pixel-art"),
    "tile-texture",
)


def _operations(*names: str) -> frozenset[str]:
    return frozenset(names)


_FORMAT: Mapping[str, Field] = {"output_format": lambda call: call.output_format}
_DRAWING: Mapping[str, Field] = {
    **_FORMAT,
    "prompt": prompt,
    "negative_prompt": lambda call: call.negative_prompt,
    "seed": seed,
}
_SD3: Mapping[str, Field] = {
    **_DRAWING,
    "aspect_ratio": drawn_ratio,
    "mode": mode,
    "strength": strength,
    "cfg_scale": lambda call: call.guidance,
}
_PRESET = {"style_preset": OptionRule(str, PRESETS)}
_GROW = {"grow_mask": OptionRule(int, low=0, high=20)}
_TEXT = OptionRule(str)


def _share(low: float = 0.0, high: float = 1.0) -> OptionRule:
    return OptionRule(float, low=low, high=high)


_BASE = Capabilities(frozenset(), max_count=1, formats=frozenset({"png", "jpeg", "webp"}))
_DRAWS = replace(_BASE, operations=_operations("TEXT_TO_IMAGE"), seed=True, negative_prompt=True, options=_PRESET)
_REDRAWS = replace(_DRAWS, operations=_operations("TEXT_TO_IMAGE", "IMAGE_TO_IMAGE"), strength=True, max_images=1)
_EDITS = replace(_DRAWS, operations=_operations("EDIT"), max_images=1)
_OUTPAINTS = replace(_EDITS, operations=_operations("OUTPAINT"), negative_prompt=False)
_CONTROLS = replace(_DRAWS, operations=_operations("CONTROL"))
_UPSCALES = replace(_BASE, operations=_operations("UPSCALE"), max_images=1)
_CUTS_OUT = replace(
    _BASE, operations=_operations("REMOVE_BACKGROUND"), max_images=1, formats=frozenset({"png", "webp"})
)
_SOURCE: Mapping[str, Picture] = {"image": source(0)}
_MASKED: Mapping[str, Picture] = {**_SOURCE, "mask": lambda call: call.mask}
_GUIDE: Mapping[str, Picture] = {"image": guide}
_STRUCTURED: Mapping[str, Field] = {**_DRAWING, "control_strength": scale}


def _sd3(guidance: bool = True, redraws: bool = True) -> Service:
    able = replace(_REDRAWS if redraws else _DRAWS, guidance=guidance)
    return Service("generate/sd3", able, _SD3, _SOURCE if redraws else {}, ("prompt",))


def _edit(path: str, options: Mapping[str, OptionRule], needs: tuple[str, ...] = ("prompt",)) -> Service:
    return Service(f"edit/{path}", replace(_EDITS, options={**_PRESET, **options}), _DRAWING, _SOURCE, needs)


def _control_by(kind: str) -> Service:
    return Service(f"control/{kind}", replace(_CONTROLS, controls=frozenset({kind})), _STRUCTURED, _GUIDE, ("prompt",))


SERVICES: Mapping[str, Service] = {
    "ultra": Service(
        "generate/ultra",
        _REDRAWS,
        {**_DRAWING, "aspect_ratio": drawn_ratio, "strength": strength},
        _SOURCE,
        ("prompt",),
    ),
    "core": Service("generate/core", _DRAWS, {**_DRAWING, "aspect_ratio": drawn_ratio}, needs=("prompt",)),
    "sd3.5-large": _sd3(),
    "sd3.5-large-turbo": _sd3(),
    "sd3.5-medium": _sd3(),
    "sd3.5-flash": _sd3(redraws=False),
    "erase": Service(
        "edit/erase",
        replace(_BASE, operations=_operations("INPAINT"), max_images=1, seed=True, options=_GROW),
        {**_FORMAT, "seed": seed},
        _MASKED,
    ),
    "inpaint": Service(
        "edit/inpaint",
        replace(_EDITS, operations=_operations("INPAINT"), options={**_PRESET, **_GROW}),
        _DRAWING,
        _MASKED,
        ("prompt",),
    ),
    "outpaint": Service(
        "edit/outpaint",
        replace(
            _EDITS,
            operations=_operations("OUTPAINT"),
            negative_prompt=False,
            options={**_PRESET, "creativity": _share()},
        ),
        {
            **{name: of for name, of in _DRAWING.items() if name != "negative_prompt"},
            "left": lambda call: call.margins.left or None,
            "right": lambda call: call.margins.right or None,
            "up": lambda call: call.margins.top or None,
            "down": lambda call: call.margins.bottom or None,
        },
        _SOURCE,
    ),
    "search-and-replace": _edit("search-and-replace", {"search_prompt": _TEXT, **_GROW}, ("prompt", "search_prompt")),
    "search-and-recolor": _edit("search-and-recolor", {"select_prompt": _TEXT, **_GROW}, ("prompt", "select_prompt")),
    "remove-background": Service("edit/remove-background", _CUTS_OUT, _FORMAT, _SOURCE),
    "replace-background-and-relight": Service(
        "edit/replace-background-and-relight",
        replace(
            _EDITS,
            options={
                "light_source_direction": OptionRule(str, ("left", "right", "above", "below")),
                "light_source_strength": _share(),
                "preserve_original_subject": _share(),
                "original_background_depth": _share(),
                "keep_original_background": OptionRule(bool),
            },
        ),
        {**{name: of for name, of in _DRAWING.items() if name != "prompt"}, "background_prompt": prompt},
        {"subject_image": source(0)},
        ("background_prompt",),
        asynchronous=True,
    ),
    "fast": Service("upscale/fast", replace(_UPSCALES, upscale_factors=(4,)), _FORMAT, _SOURCE),
    "conservative": Service(
        "upscale/conservative",
        replace(_UPSCALES, seed=True, negative_prompt=True, options={"creativity": _share(0.2, 0.5)}),
        _DRAWING,
        _SOURCE,
        ("prompt",),
    ),
    "creative": Service(
        "upscale/creative",
        replace(_UPSCALES, seed=True, negative_prompt=True, options={**_PRESET, "creativity": _share(0.1, 0.5)}),
        _DRAWING,
        _SOURCE,
        ("prompt",),
        asynchronous=True,
    ),
    "sketch": _control_by("sketch"),
    "structure": _control_by("structure"),
    "style": Service(
        "control/style",
        replace(_CONTROLS, controls=frozenset({"style"})),
        {**_DRAWING, "fidelity": scale, "aspect_ratio": ratio},
        _GUIDE,
        ("prompt",),
    ),
    "style-transfer": Service(
        "control/style-transfer",
        replace(_EDITS, max_images=2, options={}),
        _DRAWING,
        {"init_image": source(0), "style_image": source(1)},
        ("init_image", "style_image"),
    ),
}
"""By the vendor's name of the service, which is the catalog's `provider_model`."""


def service_of(name: str) -> Service:
    """The service of this name.

    Raises:
        ProviderError: BAD_REQUEST when there is none.
    """
    if name not in SERVICES:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"there is no service {name}")
    return SERVICES[name]
