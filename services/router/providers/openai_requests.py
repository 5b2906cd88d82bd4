"""Putting a call on the wire of OpenAI's images API: its fields, and source pictures in the four ways they travel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.router.providers.base import InputImage, ProviderCall
from services.router.providers.http import Part
from services.router.providers.openai_dialects import Ask, Carry
from services.router.providers.retouch import base64_text, padded, size_of, transparent_mask


async def widened(call: ProviderCall) -> ProviderCall:
    """OUTPAINT as an edit of a larger picture whose border is masked."""
    if call.operation != "OUTPAINT":
        return call
    image, mask = await padded(call.images[0], call.margins)
    width, height = await size_of(image)
    return replace(call, images=(image, *call.images[1:]), mask=mask, width=width, height=height)


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
