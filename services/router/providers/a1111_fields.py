"""What AUTOMATIC1111's API is asked with, and what it can do. Data and conversions for `a1111`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.options import OptionRule
from services.router.providers.retouch import base64_text

Body = dict[str, Any]

UPSCALE = "UPSCALE"
FROM_PICTURE = 1
"""Drawing over begins with what is under the mask; the API's default begins with a blur, which strength cannot keep."""
PATHS: Mapping[str, str] = {"TEXT_TO_IMAGE": "txt2img", "CONTROL": "txt2img", UPSCALE: "extra-single-image"}
"""By operation; every other one is `img2img`."""
SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIM",
    "euler": "Euler",
    "euler_a": "Euler a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_sde": "DPM++ SDE",
    "heun": "Heun",
    "lms": "LMS",
    "unipc": "UniPC",
}
"""The server's names of schedulers that go by the same name everywhere here; others are passed as they are."""
CAPABILITIES = Capabilities(
    frozenset({"TEXT_TO_IMAGE", "IMAGE_TO_IMAGE", "INPAINT", "OUTPAINT", UPSCALE, "CONTROL"}),
    max_count=8,
    seed=True,
    negative_prompt=True,
    steps=True,
    guidance=True,
    scheduler=True,
    strength=True,
    max_images=1,
    controls=frozenset({"canny", "depth", "pose", "sketch", "structure", "style"}),
    upscale_factors=(2, 3, 4),
    progress=True,
    previews=True,
    options={
        "tiling": OptionRule(bool),
        "restore_faces": OptionRule(bool),
        "mask_blur": OptionRule(int, low=0, high=64),
        "inpaint_full_res": OptionRule(bool),
    },
)


async def sources(call: ProviderCall) -> Body:
    """The picture is cropped, never stretched, to a size of another shape; white in the mask is painted over."""
    fields: Body = {
        "init_images": [await base64_text(call.images[0].data)],
        "resize_mode": 1,
        "denoising_strength": 1.0 if call.operation == "OUTPAINT" else call.strength,
    }
    if call.mask is None:
        return fields
    whole = {"inpainting_mask_invert": 0, "inpaint_full_res": False, "inpainting_fill": FROM_PICTURE}
    return {**fields, **whole, "mask": await base64_text(call.mask.data)}


def drawn_by(info: Mapping[str, Any], model: str) -> bool:
    """Whether the answer's `info` tells of the checkpoint that was asked for: by title, file name, name or hash."""
    name, short = info.get("sd_model_name"), info.get("sd_model_hash")
    asked = model.partition(" [")[0].rpartition("/")[2]
    stem = asked.removesuffix(".safetensors").removesuffix(".ckpt")
    told = isinstance(name, str) or isinstance(short, str)
    return not told or stem == name or (isinstance(short, str) and short != "" and asked.startswith(short))
