"""Putting a call on the wire of OpenAI's images API: its fields, and source pictures in the four ways they travel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from services.router.providers.base import InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import Part
from services.router.providers.openai_dialects import SIZE_STEP, Ask, Carry, Draws
from services.router.providers.retouch import base64_text, padded, size_of, transparent_mask

LEAST_PIXELS = 655_360
"""Smaller sizes are not asked for on our own: Azure documents this least for GPT Image 2, OpenAI none."""


@dataclass(frozen=True)
class Shaped:
    """A call whose size is settled."""

    call: ProviderCall
    drawn: tuple[int, int] = (0, 0)
    wanted: tuple[int, int] = (0, 0)
    """Other than `drawn` where the result has to be cut, because the vendor draws only larger sizes."""


async def shaped(call: ProviderCall, draws: Draws | None) -> Shaped:
    """OUTPAINT as an edit of a larger picture whose border is masked; edits keep their source's size where they can.

    Raises:
        ProviderError: BAD_REQUEST when the widened picture has a size that the model does not draw.
    """
    if draws is None or not call.images or call.width:
        return Shaped(call)
    if call.operation == "OUTPAINT":
        return await _widened(call, draws)
    width, height = await size_of(call.images[0])
    kept = width * height >= LEAST_PIXELS and draws(call.model, width, height)
    return Shaped(replace(call, width=width, height=height) if kept else call)


async def _widened(call: ProviderCall, draws: Draws) -> Shaped:
    source, margins = await size_of(call.images[0]), call.margins
    wanted = (source[0] + margins.left + margins.right, source[1] + margins.top + margins.bottom)
    width, height = (-(-edge // SIZE_STEP) * SIZE_STEP for edge in wanted)
    if not draws(call.model, width, height):
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} draws no picture of {width}x{height}")
    right, bottom = margins.right + width - wanted[0], margins.bottom + height - wanted[1]
    image, mask = await padded(call.images[0], replace(margins, right=right, bottom=bottom))
    images = (image, *call.images[1:])
    return Shaped(replace(call, images=images, mask=mask, width=width, height=height), (width, height), wanted)


async def files(ask: Ask, call: ProviderCall) -> list[Part]:
    """Source pictures and mask as files of a form."""
    parts = [_file(ask.images, f"image-{number}", image) for number, image in enumerate(call.images, 1)]
    if call.mask is not None and ask.mask:
        parts.append(_file(ask.mask, "mask", await transparent_mask(call.mask) if ask.transparent else call.mask))
    return parts


def _file(name: str, stem: str, image: InputImage) -> Part:
    return Part(name, image.data, f"{stem}.{image.media_type.removeprefix('image/')}", image.media_type)


async def encoded(ask: Ask, call: ProviderCall) -> dict[str, Any]:
    """Source pictures as fields of a JSON body."""
    if not (ask.images and call.images):
        return {}
    texts = [await base64_text(image.data) for image in call.images]
    if ask.carry is Carry.LIST:
        return {ask.images: texts}
    return {ask.images if not number else f"{ask.images}_{number + 1}": text for number, text in enumerate(texts)}


def form_text(value: object) -> str:
    """A value as forms carry it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
