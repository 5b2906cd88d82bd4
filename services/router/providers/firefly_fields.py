"""The fields of Firefly's services, as the vendor's API description of 2026-05-27 names them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.router.providers.base import ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.shapes import ratio_name

Body = dict[str, Any]

RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16")
LEVELS: Mapping[float, str] = {1e6: "1MP", 2.4e6: "2.4MP", 4e6: "4MP"}
"""Image 5's names by pixels. Which edges it draws is not documented, so a size names shape and level."""
LEVEL_TOLERANCE = math.log(1.15)
SEEDS = 2**31
"""Seeds are taken below this, for which the vendor's examples speak; its limit is not documented. The answer tells the
seed that was used."""
CUSTOM = ":"
"""Between the version and the id of a custom model: `image4_custom:urn…`."""


@dataclass(frozen=True)
class Handed:
    """Upload ids of a call's pictures."""

    images: tuple[str, ...] = ()
    mask: str = ""
    controls: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, call: ProviderCall) -> Handed:
        """As many as the call has, without an id."""
        return cls(("",) * len(call.images), "", ("",) * len(call.controls))


def _source(upload_id: str) -> Body:
    return {"source": {"uploadId": upload_id}}


def _varied(call: ProviderCall) -> Body:
    return {"numVariations": call.count if call.count > 1 else None, "seeds": _seeds(call)}


def _seeds(call: ProviderCall) -> list[int] | None:
    return None if call.seed is None else [(call.seed + place) % SEEDS for place in range(call.count)]


def _size(call: ProviderCall) -> Body | None:
    return {"width": call.width, "height": call.height} if call.width else None


def _prompted(call: ProviderCall) -> Body:
    told = {"prompt": call.prompt, "negativePrompt": call.negative_prompt, "size": _size(call), **_varied(call)}
    return {**told, "promptBiasingLocaleCode": call.options.get("locale")}


def drawn(call: ProviderCall, handed: Handed) -> Body:
    """A picture from a prompt, guided by controls."""
    told = {
        "contentClass": call.options.get("content_class"),
        "visualIntensity": call.options.get("visual_intensity"),
        "customModelId": call.model.partition(CUSTOM)[2],
    }
    kinds = [control.kind for control in call.controls]
    if len(kinds) != len(set(kinds)):
        raise ProviderError(ErrorKind.BAD_REQUEST, "it takes one control of a kind")
    guides = {
        control.kind: present({"imageReference": _source(upload_id), "strength": _percent(control.scale)})
        for control, upload_id in zip(call.controls, handed.controls, strict=True)
    }
    return {**_prompted(call), **told, **guides}


def _percent(scale: float | None) -> int | None:
    if scale is not None and scale > 1:
        raise ProviderError(ErrorKind.BAD_REQUEST, "it takes a control's scale of 0 to 1")
    return None if scale is None else max(round(scale * 100), 1)


def redrawn(call: ProviderCall, handed: Handed) -> Body:
    """A picture from a prompt, with the structure of the source image."""
    return {**drawn(call, handed), "structure": {"imageReference": _source(handed.images[0])}}


def similar(call: ProviderCall, handed: Handed) -> Body:
    """Pictures like the source image."""
    return {"image": _source(handed.images[0]), "size": _size(call), **_varied(call)}


def filled(call: ProviderCall, handed: Handed) -> Body:
    """What is white in the mask, drawn anew."""
    return {**_prompted(call), "image": _source(handed.images[0]), "mask": _source(handed.mask)}


def expanded(call: ProviderCall, handed: Handed) -> Body:
    """The source image with borders drawn around it."""
    at = call.margins
    inset = {"left": at.left, "top": at.top, "right": at.right, "bottom": at.bottom}
    told = {"prompt": call.prompt, "size": _size(call), **_varied(call)}
    return {**told, "image": _source(handed.images[0]), "placement": {"inset": inset}}


def upscaled(call: ProviderCall, handed: Handed) -> Body:
    """The source image, enlarged."""
    seeds = _seeds(call) or [zlib.crc32(call.attempt_id.encode()) % SEEDS]  # one is required
    return {"image": _source(handed.images[0]), "seeds": seeds, "upscaleFactor": call.upscale_factor or None}


def image5(call: ProviderCall, handed: Handed) -> Body:
    """Image 5: a picture from a prompt, or the source image changed as it says."""
    chosen = {"localeCode": call.options.get("locale"), "prompt_reasoner": call.options.get("prompt_reasoner")}
    told = {
        "prompt": call.prompt,
        "seeds": _seeds(call),
        "modelSpecificPayload": present(chosen),
        "referenceBlobs": [{**_source(upload_id), "usage": "general"} for upload_id in handed.images],
    }
    if not call.width:
        return told
    if call.images:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} takes no size beside a source image")
    return {**told, "aspectRatio": ratio_name(call.width, call.height, RATIOS), "resolutionLevel": _level(call)}


def _level(call: ProviderCall) -> str:
    area = math.log(call.width * call.height)
    nearest = min(LEVELS, key=lambda pixels: abs(math.log(pixels) - area))
    if abs(math.log(nearest) - area) > LEVEL_TOLERANCE:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} draws no picture of {call.width}x{call.height}")
    return LEVELS[nearest]


def present(fields: Body) -> Body:
    """What is asked for; the rest is left out."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}
