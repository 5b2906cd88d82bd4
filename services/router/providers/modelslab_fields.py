"""What ModelsLab's calls are called and take, by operation.

Numbers are sent as texts where the vendor's own samples do. Whether white in a mask is what changes is not confirmed;
it is taken for granted. Sources: ModelsLab/docs-v2, collected 2026-11-20.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.options import OptionRule

SCHEDULERS: Mapping[str, str] = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
}
"""The vendor's names of the mesh's schedulers; any other one is sent as it is."""
CONTROLS: Mapping[str, str] = {"canny": "canny", "depth": "depth", "pose": "openpose", "sketch": "scribble"}
"""The vendor's names of kinds of controls."""


@dataclass(frozen=True)
class Material:
    """A call whose pictures have addresses, and the size that it draws."""

    call: ProviderCall
    width: int
    height: int
    image: str = ""
    mask: str = ""
    control: str = ""


def _drawn(of: Material) -> dict[str, Any]:
    call = of.call
    return {
        "model_id": call.model,
        "prompt": call.prompt,
        "negative_prompt": call.negative_prompt,
        "width": str(of.width or ""),
        "height": str(of.height or ""),
        "samples": str(call.count),
        "num_inference_steps": str(call.steps or ""),
        "guidance_scale": call.guidance,
        "seed": call.seed,
        "scheduler": SCHEDULERS.get(call.scheduler, call.scheduler),
        "temp": "yes",
        "track_id": call.attempt_id,
    }


def _from_image(of: Material) -> dict[str, Any]:
    return {**_drawn(of), "init_image": of.image, "strength": of.call.strength}


def _controlled(of: Material) -> dict[str, Any]:
    guide = of.call.controls[0]
    kind = CONTROLS[guide.kind]
    return {
        **_drawn(of),
        "controlnet_model": kind,
        "controlnet_type": kind,
        "control_image": of.control,
        "controlnet_conditioning_scale": guide.scale,
    }


def _enlarged(of: Material) -> dict[str, Any]:
    return {"model_id": of.call.model, "init_image": of.image, "scale": of.call.upscale_factor or None}


def _painted(of: Material) -> dict[str, Any]:
    return {**_from_image(of), "mask_image": of.mask}


CALLS: Mapping[str, tuple[str, Callable[[Material], dict[str, Any]]]] = {
    "TEXT_TO_IMAGE": ("images/text2img", _drawn),
    "IMAGE_TO_IMAGE": ("images/img2img", _from_image),
    "EDIT": ("images/img2img", _from_image),
    "INPAINT": ("images/inpaint", _painted),
    "OUTPAINT": ("images/inpaint", _painted),
    "CONTROL": ("images/controlnet", _controlled),
    "UPSCALE": ("image_editing/super_resolution", _enlarged),
    "REMOVE_BACKGROUND": ("image_editing/removebg_mask", lambda of: {"image": of.image}),
}
"""Path and fields by operation; fields that are None or "" are left out. OUTPAINT is an inpainted border."""

CAPABILITIES = Capabilities(
    frozenset(CALLS),
    max_count=4,
    seed=True,
    negative_prompt=True,
    steps=True,
    guidance=True,
    scheduler=True,
    strength=True,
    max_images=1,
    controls=frozenset(CONTROLS),
    upscale_factors=(4, 2, 3),
    resumable=True,
    webhooks=True,
    options={"enhance_prompt": OptionRule(str, ("yes", "no")), "clip_skip": OptionRule(int, low=1, high=8)},
)
