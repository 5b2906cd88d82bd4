"""Which inputs the endpoints of fal take, and what any of them can do.

Sources: the endpoints' API pages, collected 2026-11-20; the polarity of masks from third parties that quote them.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.router.providers.base import Capabilities
from services.router.providers.inputs import Dialect
from services.router.providers.options import OptionRule

_COMMON = {"prompt": "prompt", "seed": "seed", "count": "num_images", "format": "output_format"}
_SIZED = {**_COMMON, "size": "image_size"}
_TUNED = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
_FILLED = {"image": "image_url", "mask": "mask_url"}
_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "9:21")
_GEMINI_RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9", "5:4", "4:5")
_GEMINI = {
    "prompt": "prompt",
    "count": "num_images",
    "format": "output_format",
    "aspect_ratio": "aspect_ratio",
    "images": "image_urls",
}

DIALECTS: Mapping[str, Dialect] = {
    "default": Dialect(
        {
            "prompt": "prompt",
            "negative_prompt": "negative_prompt",
            "seed": "seed",
            "many": "num_images",
            "size": "image_size",
            **_TUNED,
            "scheduler": "scheduler",
            "format": "output_format",
            **_FILLED,
            "strength": "strength",
            "control": "control_image_url",
            "control_scale": "controlnet_conditioning_scale",
            "factor": "upscale_factor",
        }
    ),
    "flux": Dialect({**_SIZED, **_TUNED}),
    "flux-image": Dialect({**_COMMON, **_TUNED, "image": "image_url", "strength": "strength"}),
    "flux-pro": Dialect(_SIZED),
    "flux-ratio": Dialect({**_COMMON, "aspect_ratio": "aspect_ratio"}, ratios=_RATIOS),
    "flux-fill": Dialect({**_COMMON, **_FILLED}),
    "flux-control": Dialect(
        {**_SIZED, **_TUNED, "control": "control_lora_image_url", "control_scale": "control_lora_strength"}
    ),
    "kontext": Dialect(
        {**_COMMON, "guidance": "guidance_scale", "aspect_ratio": "aspect_ratio", "image": "image_url"}, ratios=_RATIOS
    ),
    "gemini": Dialect(_GEMINI, ratios=_GEMINI_RATIOS),
    "ideogram": Dialect(
        {
            "prompt": "prompt",
            "negative_prompt": "negative_prompt",
            "seed": "seed",
            "count": "num_images",
            "size": "image_size",
            "style": "style",
            **_FILLED,
        },
        black_mask=True,
    ),
    "qwen-inpaint": Dialect(
        {**_COMMON, **_TUNED, **_FILLED, "negative_prompt": "negative_prompt", "strength": "strength"}
    ),
    "upscaler": Dialect({"image": "image_url", "factor": "scale"}),
    "cut-out": Dialect({"image": "image_url"}),
}

MODELS: Mapping[str, str] = {
    "": "default",
    "fal-ai/flux/": "flux",
    "fal-ai/flux/dev/image-to-image": "flux-image",
    "fal-ai/flux-pro/": "flux-pro",
    "fal-ai/flux-pro/v1.1-ultra": "flux-ratio",
    "fal-ai/flux-pro/v1/fill": "flux-fill",
    "fal-ai/flux-pro/kontext": "kontext",
    "fal-ai/flux-control-lora": "flux-control",
    "fal-ai/nano-banana": "gemini",
    "fal-ai/ideogram/": "ideogram",
    "fal-ai/qwen-image-edit/inpaint": "qwen-inpaint",
    "fal-ai/esrgan": "upscaler",
    "fal-ai/bria/background/remove": "cut-out",
    "fal-ai/birefnet": "cut-out",
}
"""Dialects by the beginning of an endpoint's id; the longest that fits counts."""

CAPABILITIES = Capabilities(
    frozenset(
        ["TEXT_TO_IMAGE", "IMAGE_TO_IMAGE", "INPAINT", "OUTPAINT", "CONTROL", "EDIT", "UPSCALE", "REMOVE_BACKGROUND"]
    ),
    max_count=4,
    seed=True,
    negative_prompt=True,
    steps=True,
    guidance=True,
    scheduler=True,
    strength=True,
    max_images=8,
    controls=frozenset({"canny", "depth"}),
    upscale_factors=(2, 4),
    formats=frozenset({"png", "jpeg", "webp"}),
    resumable=True,
    cancelable=True,
    webhooks=True,
    options={
        "enhance_prompt": OptionRule(bool),
        "expand_prompt": OptionRule(bool),
    },
)
