"""What AUTOMATIC1111's API is asked with, and what it can do. Data and conversions for `a1111`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.router.providers.base import Capabilities, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_other_size
from services.router.providers.options import OptionRule
from services.router.providers.retouch import base64_text, padded, size_of

Body = dict[str, Any]

STEP = 8
"""Edges of what is drawn are multiples of it; the server cuts others down."""
UPSCALE = "UPSCALE"
PATHS: Mapping[str, str] = {"TEXT_TO_IMAGE": "txt2img", "CONTROL": "txt2img", UPSCALE: "extra-single-image"}
"""By operation; every other one is `img2img`."""
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


@dataclass(frozen=True)
class Shaped:
    """A call whose size is settled."""

    call: ProviderCall
    drawn: tuple[int, int] = (0, 0)
    wanted: tuple[int, int] = (0, 0)
    """Other than `drawn` where the result has to be cut."""


async def shaped(call: ProviderCall) -> Shaped:
    """OUTPAINT as an inpaint of a padded picture; sources of odd sizes padded to ones that are drawn."""
    if call.operation == UPSCALE:
        return Shaped(call)
    if call.width % STEP or call.height % STEP:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"edges of pictures drawn here are multiples of {STEP}")
    if not call.images or (call.width and call.operation == "IMAGE_TO_IMAGE"):
        return Shaped(call)
    await refuse_other_size(call)
    (width, height), at = await size_of(call.images[0]), call.margins
    wanted = (width + at.left + at.right, height + at.top + at.bottom)
    rest = Margins(right=-wanted[0] % STEP, bottom=-wanted[1] % STEP)
    image, mask = call.images[0], call.mask
    if call.operation == "OUTPAINT":
        image, mask = await padded(image, replace(at, right=at.right + rest.right, bottom=at.bottom + rest.bottom))
    elif rest != Margins():
        image, mask = (await padded(image, rest))[0], (await padded(mask, rest))[0] if mask else None
    drawn = (wanted[0] + rest.right, wanted[1] + rest.bottom)
    return Shaped(replace(call, images=(image,), mask=mask, width=drawn[0], height=drawn[1]), drawn, wanted)


async def sources(call: ProviderCall) -> Body:
    """The picture is cropped, never stretched, to a size of another shape; white in the mask is painted over."""
    fields: Body = {
        "init_images": [await base64_text(call.images[0].data)],
        "resize_mode": 1,
        "denoising_strength": 1.0 if call.operation == "OUTPAINT" else call.strength,
    }
    if call.mask is None:
        return fields
    whole = {"inpainting_mask_invert": 0, "inpaint_full_res": False}
    return {**fields, **whole, "mask": await base64_text(call.mask.data)}


def drawn_by(info: Mapping[str, Any], model: str) -> bool:
    """Whether the answer's `info` tells of the checkpoint that was asked for: by title, file name, name or hash."""
    name, short = info.get("sd_model_name"), info.get("sd_model_hash")
    asked = model.partition(" [")[0].rpartition("/")[2]
    stem = asked.removesuffix(".safetensors").removesuffix(".ckpt")
    told = isinstance(name, str) or isinstance(short, str)
    return not told or stem == name or (isinstance(short, str) and short != "" and asked.startswith(short))
