"""Which inputs the models on Replicate take, and what any of them can do. Read from their API pages on 2026-11-20."""

from __future__ import annotations

from collections.abc import Mapping

from services.router.providers.base import Capabilities
from services.router.providers.inputs import Dialect
from services.router.providers.options import OptionRule

_JPG = {"jpeg": "jpg"}
_FLUX_RATIOS = ("1:1", "16:9", "9:16", "3:2", "2:3", "4:3", "3:4", "4:5", "5:4", "21:9", "9:21")
_COMMON = {"prompt": "prompt", "seed": "seed", "format": "output_format"}
_PIXELS = {"custom": "aspect_ratio", "width": "width", "height": "height", "compression": "output_quality"}
_TUNED = {"steps": "steps", "guidance": "guidance"}
_DIFFUSERS = {
    **_COMMON,
    "negative_prompt": "negative_prompt",
    "width": "width",
    "height": "height",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "scheduler": "scheduler",
    "image": "image",
    "mask": "mask",
    "strength": "prompt_strength",
}

DIALECTS: Mapping[str, Dialect] = {
    "default": Dialect(
        {
            **_DIFFUSERS,
            "many": "num_outputs",
            "control": "control_image",
            "control_scale": "condition_scale",
            "factor": "scale",
        },
        formats=_JPG,
    ),
    "sdxl": Dialect(
        {term: name for term, name in _DIFFUSERS.items() if term != "format"} | {"count": "num_outputs"},
        schedulers={
            "ddim": "DDIM",
            "euler": "K_EULER",
            "euler_a": "K_EULER_ANCESTRAL",
            "dpmpp_2m": "DPMSolverMultistep",
        },
    ),
    "flux": Dialect(
        {
            **_COMMON,
            "aspect_ratio": "aspect_ratio",
            "count": "num_outputs",
            "steps": "num_inference_steps",
            "compression": "output_quality",
        },
        ratios=_FLUX_RATIOS,
        formats=_JPG,
    ),
    "flux-dev": Dialect(
        {
            **_COMMON,
            "aspect_ratio": "aspect_ratio",
            "count": "num_outputs",
            "steps": "num_inference_steps",
            "guidance": "guidance",
            "image": "image",
            "strength": "prompt_strength",
            "compression": "output_quality",
        },
        ratios=_FLUX_RATIOS,
        formats=_JPG,
    ),
    "flux-pro": Dialect({**_COMMON, **_PIXELS}, formats=_JPG),
    "flux-ratio": Dialect({**_COMMON, "aspect_ratio": "aspect_ratio"}, ratios=_FLUX_RATIOS, formats=_JPG),
    "flux-2": Dialect({**_COMMON, **_PIXELS, "images": "input_images"}, formats=_JPG),
    "flux-fill": Dialect({**_COMMON, **_TUNED, "image": "image", "mask": "mask"}, formats=_JPG),
    "flux-fill-dev": Dialect(
        {
            **_COMMON,
            "count": "num_outputs",
            "steps": "num_inference_steps",
            "guidance": "guidance",
            "image": "image",
            "mask": "mask",
        },
        formats=_JPG,
    ),
    "flux-control": Dialect({**_COMMON, **_TUNED, "control": "control_image"}, formats=_JPG),
    "kontext": Dialect(
        {**_COMMON, "aspect_ratio": "aspect_ratio", "image": "input_image"}, ratios=_FLUX_RATIOS, formats=_JPG
    ),
    "nano-banana": Dialect(
        {
            "prompt": "prompt",
            "images": "image_input",
            "aspect_ratio": "aspect_ratio",
            "format": "output_format",
        },
        ratios=("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"),
        formats=_JPG,
    ),
    "ideogram": Dialect(
        {
            "prompt": "prompt",
            "seed": "seed",
            "aspect_ratio": "aspect_ratio",
            "image": "image",
            "mask": "mask",
            "style": "style_type",
        },
        ratios=("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "16:10", "10:16", "3:1", "1:3"),
        black_mask=True,
    ),
    "upscaler": Dialect({"image": "image", "factor": "scale"}),
    "cut-out": Dialect({"image": "image"}),
}

MODELS: Mapping[str, str] = {
    "": "default",
    "stability-ai/sdxl": "sdxl",
    "black-forest-labs/flux-schnell": "flux",
    "black-forest-labs/flux-dev": "flux-dev",
    "black-forest-labs/flux-1.1-pro": "flux-pro",
    "black-forest-labs/flux-1.1-pro-ultra": "flux-ratio",
    "black-forest-labs/flux-2": "flux-2",
    "black-forest-labs/flux-fill-pro": "flux-fill",
    "black-forest-labs/flux-fill-dev": "flux-fill-dev",
    "black-forest-labs/flux-canny-pro": "flux-control",
    "black-forest-labs/flux-depth-pro": "flux-control",
    "black-forest-labs/flux-kontext": "kontext",
    "google/nano-banana": "nano-banana",
    "ideogram-ai/": "ideogram",
    "nightmareai/real-esrgan": "upscaler",
    "bria/remove-background": "cut-out",
}
"""Dialects by the beginning of a model's id; the longest that fits counts."""

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
    upscale_factors=(4, 2),
    formats=frozenset({"png", "jpeg", "webp"}),
    resumable=True,
    cancelable=True,
    progress=True,
    webhooks=True,
    options={"prompt_upsampling": OptionRule(bool), "go_fast": OptionRule(bool)},
)
