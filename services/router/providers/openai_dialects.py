"""What servers with OpenAI's images API take, family by family, as data.

An `Ask` is one way to put an operation on the wire: its path, its fields, and how source pictures travel. Sources: the
OpenAI API reference and SDK; the entry points of SGLang 0.5.23 and vLLM-Omni 0.30.0; LocalAI's swagger; Microsoft's
Foundry documentation. Masks: OpenAI changes what is transparent, the self-hosted servers what is white.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.options import OptionRule
from services.router.providers.shapes import size_text

Field = Callable[[ProviderCall], Any]
Draws = Callable[[str, int, int], bool]


class Carry(enum.Enum):
    """How source pictures travel."""

    FORM = enum.auto()
    """As files of a multipart form; the other fields are then texts of the form."""
    TEXT = enum.auto()
    """One, as base64 in a field of the JSON body."""
    LIST = enum.auto()
    """As a list of base64."""
    NUMBERED = enum.auto()
    """As base64 in `name`, `name_2`, `name_3`, …"""


@dataclass(frozen=True)
class Ask:
    """One operation on the wire."""

    path: str
    """Below the base address."""
    fields: Mapping[str, Field]
    """By name; a field that gives None or "" is left out."""
    images: str = ""
    """The name that source pictures travel under; empty: it takes none."""
    carry: Carry = Carry.FORM
    mask: str = ""
    """The name that the mask travels under."""
    transparent: bool = False
    """Whether the mask marks what to change by transparency; otherwise by white."""
    most_images: int = 16


@dataclass(frozen=True)
class Dialect:
    """How one family of servers wants to be asked."""

    asks: Mapping[str, Ask]
    """By operation."""
    able: Capabilities
    """Without operations and `max_images`, which follow from `asks`."""
    streams: bool = False
    """Whether it shows unfinished pictures when asked (`partial_images`)."""
    draws: Draws | None = None
    """Which sizes a model draws, given its name, width and height. None: edits keep the size of their source."""

    @property
    def capabilities(self) -> Capabilities:
        """What servers of the family can do."""
        most = max((ask.most_images for ask in self.asks.values() if ask.images), default=0)
        return replace(self.able, operations=frozenset(self.asks), max_images=most)


def _user(call: ProviderCall) -> str:
    return call.user[:64]


def _two_parts(call: ProviderCall) -> str:
    """`positive|negative`: a bar of the caller's own must not start the negative part."""
    positive = call.prompt.replace("|", ",")
    return f"{positive}|{call.negative_prompt}" if call.negative_prompt else positive


_MODEL: Mapping[str, Field] = {"model": lambda call: call.model}
_BASIC: Mapping[str, Field] = {
    **_MODEL,
    "prompt": lambda call: call.prompt,
    "n": lambda call: call.count,
    "size": lambda call: size_text(call.width, call.height),
}
_GPT: Mapping[str, Field] = {
    **_BASIC,
    "quality": lambda call: call.quality,
    "output_format": lambda call: call.output_format,
    "output_compression": lambda call: call.compression or None,
    "background": lambda call: "transparent" if call.transparent_background else "",
}
_OPENAI: Mapping[str, Field] = {**_GPT, "safety_identifier": _user}
_AZURE: Mapping[str, Field] = {**_GPT, "user": _user}
_DIFFUSION: Mapping[str, Field] = {
    **_BASIC,
    "response_format": lambda _: "b64_json",
    "seed": lambda call: call.seed,
    "num_inference_steps": lambda call: call.steps,
    "guidance_scale": lambda call: call.guidance,
    "negative_prompt": lambda call: call.negative_prompt,
    "output_format": lambda call: call.output_format,
}
_COMPRESSED: Mapping[str, Field] = {**_DIFFUSION, "output_compression": lambda call: call.compression or None}
_LOCALAI: Mapping[str, Field] = {
    **_BASIC,
    "prompt": _two_parts,
    "step": lambda call: call.steps,
    "response_format": lambda _: "b64_json",
}
_LOCALAI_FILL: Mapping[str, Field] = {**_MODEL, "prompt": _two_parts, "steps": lambda call: call.steps}
_FLUX_2: Mapping[str, Field] = {
    **_MODEL,
    "prompt": lambda call: call.prompt,
    "width": lambda call: call.width or None,
    "height": lambda call: call.height or None,
    "seed": lambda call: call.seed,
    "output_format": lambda call: call.output_format,
}
_FLUX_1: Mapping[str, Field] = {**_BASIC, "output_format": lambda call: call.output_format}

GENERATE, EDIT = "images/generations", "images/edits"
PARTIAL_IMAGES = "partial_images"
_RASTER = frozenset({"png", "jpeg", "webp"})
_GPT_ABLE = Capabilities(
    frozenset(),
    max_count=10,
    transparent_background=True,
    quality=True,
    mask=True,
    formats=_RASTER,
    options={PARTIAL_IMAGES: OptionRule(int, low=0, high=3)},
)
_DIFFUSION_ABLE = Capabilities(
    frozenset(), max_count=10, seed=True, steps=True, guidance=True, negative_prompt=True, formats=_RASTER
)
_TRUE_CFG = {"true_cfg_scale": OptionRule(float, low=0, high=20)}


FIXED_SIZES = frozenset({(1024, 1024), (1536, 1024), (1024, 1536)})
FIXED_MODELS = ("gpt-image-1", "gpt-image-2.6", "chatgpt-image")
SIZE_STEP = 16
_LONGEST, _MOST_PIXELS, _MOST_RATIO = 3840, 3840 * 2160, 3


def gpt_draws(model: str, width: int, height: int) -> bool:
    """2 and 2.5: both sides multiples of 16, up to 3840x2160 and 3:1. The others, 2.6 for all that is told: three."""
    if model.startswith(FIXED_MODELS):
        return (width, height) in FIXED_SIZES
    longer, shorter = max(width, height), min(width, height)
    stepped = width % SIZE_STEP == 0 and height % SIZE_STEP == 0
    return stepped and longer <= min(_LONGEST, _MOST_RATIO * shorter) and width * height <= _MOST_PIXELS


def _retouching(fields: Mapping[str, Field]) -> Mapping[str, Ask]:
    """The GPT models edit everything over one path; what is transparent in the mask is drawn anew."""
    edit = Ask(EDIT, fields, images="image[]", mask="mask", transparent=True)
    return {
        "TEXT_TO_IMAGE": Ask(GENERATE, fields),
        "IMAGE_TO_IMAGE": edit,
        "EDIT": edit,
        "INPAINT": edit,
        "OUTPAINT": edit,
    }


def _diffusion(fields: Mapping[str, Field], edit: Ask | None = None) -> dict[str, Ask]:
    edit = edit or Ask(EDIT, fields, images="image")
    return {"TEXT_TO_IMAGE": Ask(GENERATE, fields), "IMAGE_TO_IMAGE": edit, "EDIT": edit}


_OMNI_EDIT = Ask(EDIT, {**_COMPRESSED, "strength": lambda call: call.strength}, images="image", mask="mask_image")

DIALECTS: Mapping[str, Dialect] = {
    "gpt-image": Dialect(_retouching(_OPENAI), _GPT_ABLE, streams=True, draws=gpt_draws),
    "compatible": Dialect(_diffusion(_DIFFUSION), _DIFFUSION_ABLE),
    "sglang": Dialect(
        _diffusion(_COMPRESSED),
        replace(_DIFFUSION_ABLE, options={**_TRUE_CFG, "enable_teacache": OptionRule(bool)}),
    ),
    "vllm-omni": Dialect(
        {**_diffusion(_COMPRESSED, _OMNI_EDIT), "INPAINT": _OMNI_EDIT},
        replace(
            _DIFFUSION_ABLE,
            strength=True,
            mask=True,
            options={**_TRUE_CFG, "flow_shift": OptionRule(float, low=0, high=20)},
        ),
    ),
    "localai": Dialect(
        {
            "TEXT_TO_IMAGE": Ask(GENERATE, _LOCALAI),
            "IMAGE_TO_IMAGE": Ask(GENERATE, _LOCALAI, images="file", carry=Carry.TEXT, most_images=1),
            "EDIT": Ask(GENERATE, _LOCALAI, images="ref_images", carry=Carry.LIST, most_images=4),
            "INPAINT": Ask("images/inpainting", _LOCALAI_FILL, images="image", mask="mask", most_images=1),
            "UPSCALE": Ask(
                "images/upscale",
                {**_MODEL, "scale": lambda call: call.upscale_factor or None},
                images="image",
                most_images=1,
            ),
        },
        Capabilities(frozenset(), max_count=1, steps=True, negative_prompt=True, upscale_factors=(2, 4)),
    ),
}
"""Families at an address of their own. GPT image models take no `response_format` and no seed."""

FLUX_2 = "providers/blackforestlabs/v1/{model}"
AZURE_DIALECTS: Mapping[str, Dialect] = {
    "v1": Dialect(_retouching(_AZURE), _GPT_ABLE, streams=True, draws=gpt_draws),
    "classic": Dialect(_retouching(_AZURE), _GPT_ABLE, streams=True, draws=gpt_draws),
    "flux-1": Dialect(
        _diffusion(_FLUX_1, Ask(EDIT, _FLUX_1, images="image", most_images=1)),
        Capabilities(frozenset(), max_count=1, formats=frozenset({"png", "jpeg"})),
    ),
    "flux-2": Dialect(
        _diffusion(_FLUX_2, Ask(FLUX_2, _FLUX_2, images="input_image", carry=Carry.NUMBERED, most_images=8))
        | {"TEXT_TO_IMAGE": Ask(FLUX_2, _FLUX_2)},
        Capabilities(frozenset(), max_count=1, seed=True, formats=frozenset({"png", "jpeg"})),
    ),
}
"""Families on Azure AI Foundry: the GPT models on both of its surfaces, and FLUX."""
