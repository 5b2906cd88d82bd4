"""What Google's picture models draw, as data: pixels by aspect ratio and resolution, and capabilities by surface.

Sources: the Vertex AI discovery document (revision 20261106) and google-genai 3.3.0 for names; pixels by Google's own
tables for image generation, which were not among the documents collected on 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.options import OptionRule

Pixels = Mapping[str, tuple[int, int]]


def _both(landscape: Pixels) -> Pixels:
    """The shapes, and each turned by 90 degrees."""
    turned = {":".join(reversed(name.split(":"))): (down, across) for name, (across, down) in landscape.items()}
    return {"1:1": (1024, 1024), **landscape, **turned}


_WIDE: Pixels = {
    "3:2": (1264, 848),
    "4:3": (1200, 896),
    "5:4": (1152, 928),
    "16:9": (1376, 768),
}
_GEMINI_3: Pixels = {**_both(_WIDE), "21:9": (1584, 672)}
_GEMINI_2_5: Pixels = {
    **_both({"3:2": (1248, 832), "4:3": (1184, 864), "5:4": (1152, 896), "16:9": (1344, 768)}),
    "21:9": (1536, 672),
}
_EXTREME: Pixels = {"1:4": (512, 2048), "4:1": (2048, 512), "1:8": (384, 3072), "8:1": (3072, 384)}
_IMAGEN: Pixels = _both({"4:3": (1280, 896), "16:9": (1408, 768)})


@dataclass(frozen=True)
class Family:
    """The pixels that the models of one family draw."""

    pixels: Pixels
    """By aspect ratio, at 1K."""
    levels: Mapping[str, float] = field(default_factory=lambda: {"": 1.0})
    """How many times those edges, by name of the resolution; without a name the model takes none."""


FAMILIES: Mapping[str, Family] = {
    "gemini-": Family(_GEMINI_3),
    "gemini-2.5-flash-image": Family(_GEMINI_2_5),
    "gemini-3-pro-image": Family(_GEMINI_3, {"1K": 1.0, "2K": 2.0, "4K": 4.0}),
    "gemini-3.1-flash-image": Family({**_GEMINI_3, **_EXTREME}, {"512": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}),
    "gemini-3.1-flash-lite-image": Family(_GEMINI_3),
    "imagen-": Family(_IMAGEN),
    "imagen-4": Family(_IMAGEN, {"1K": 1.0, "2K": 2.0}),
    "imagen-4.0-fast": Family(_IMAGEN),
}
"""By the beginning of the model's name; the longest that fits counts."""


def shape_of(call: ProviderCall) -> tuple[str, str]:
    """The vendor's names of the aspect ratio and the resolution that are exactly as large; empty: nothing to ask for.

    Raises:
        ProviderError: BAD_REQUEST when the model draws no such size.
    """
    if not call.width:
        return "", ""
    family = FAMILIES[max((name for name in FAMILIES if call.model.startswith(name)), key=len, default="gemini-")]
    for ratio, (across, down) in family.pixels.items():
        for level, times in family.levels.items():
            if (call.width, call.height) == (round(across * times), round(down * times)):
                return ratio, level
    raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} draws no picture of {call.width}x{call.height}")


_GEMINI = Capabilities(
    frozenset({"TEXT_TO_IMAGE", "IMAGE_TO_IMAGE", "EDIT"}),
    max_count=1,
    seed=True,
    max_images=14,
    formats=frozenset(),
    options={"temperature": OptionRule(float, low=0.0, high=2.0), "top_p": OptionRule(float, low=0.0, high=1.0)},
)
OPTION_NAMES: Mapping[str, str] = {"top_p": "topP", "enhance_prompt": "enhancePrompt"}
"""The vendor's name of an option where it is another."""

SURFACES: Mapping[str, Capabilities] = {
    "gemini": _GEMINI,
    "vertex": replace(_GEMINI, formats=frozenset({"png", "jpeg"})),
    # A seed is taken only without the watermark, which is not ours to leave out.
    "imagen": Capabilities(
        frozenset({"TEXT_TO_IMAGE", "INPAINT", "OUTPAINT", "UPSCALE"}),
        max_count=4,
        negative_prompt=True,
        guidance=True,
        max_images=1,
        upscale_factors=(2, 4),
        formats=frozenset({"png", "jpeg"}),
        options={"enhance_prompt": OptionRule(bool), "language": OptionRule(str)},
    ),
}
"""By variant. Gemini on the Developer API says nowhere which format it gives."""


def capabilities(variant: str) -> Capabilities:
    """What a surface can do; `gemini` when empty.

    Raises:
        KeyError: there is no such surface.
    """
    return SURFACES[variant or "gemini"]
