"""Source pictures and masks as vendors want them. White in a mask means "change" everywhere in the mesh.

All of it is CPU work on untrusted bytes: it runs in the imaging threads, under the caps of `mesh.imaging`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any, TypeVar

import pyvips

from mesh.errors import InvalidArgument
from mesh.imaging import in_thread, open_image
from services.router.providers.base import InputImage, Margins
from services.router.providers.errors import ErrorKind, ProviderError

THREAD_BYTES = 256 * 1024
"""Bytes above this are encoded to base64 in a thread."""
PNG = "image/png"
SAVED_AS = {"png": ".png", "jpeg": ".jpg[Q=95]", "webp": ".webp[Q=95]"}
"""How a changed result is written, by its format."""

T = TypeVar("T")


async def inverted(mask: InputImage) -> InputImage:
    """The mask for vendors that change what is BLACK (Ideogram): black and white swapped, one channel."""
    return await _worked(lambda: _png(_flat(mask).invert()))


async def transparent_mask(mask: InputImage) -> InputImage:
    """The mask for vendors that change what is TRANSPARENT (OpenAI): alpha is 0 where the mask is white."""

    def work() -> InputImage:
        grey = _flat(mask)
        return _png(grey.bandjoin([grey, grey, grey.invert()]).copy(interpretation="srgb"))

    return await _worked(work)


async def padded(image: InputImage, margins: Margins) -> tuple[InputImage, InputImage]:
    """OUTPAINT as a padded inpaint: the picture on a larger canvas, and the mask that is white where it was added.

    The border is filled with the picture's own edge, which gives models a better start than black.
    """

    def work() -> tuple[InputImage, InputImage]:
        picture = _rgb(image).copy_memory()
        width = picture.width + margins.left + margins.right
        height = picture.height + margins.top + margins.bottom
        place = (margins.left, margins.top, width, height)
        kept = _blank(picture.width, picture.height)
        mask = kept.embed(*place, extend="background", background=[255])
        return _png(picture.embed(*place, extend="copy")), _png(mask)

    return await _worked(work)


async def size_of(image: InputImage) -> tuple[int, int]:
    """Width and height in pixels.

    Raises:
        ProviderError: BAD_REQUEST when it cannot be read.
    """

    def work() -> tuple[int, int]:
        opened, _ = open_image(image.data)
        return int(opened.width), int(opened.height)

    return await _worked(work)


async def trimmed(data: bytes, drawn: tuple[int, int], wanted: tuple[int, int]) -> bytes:
    """The upper left part of a picture that came `drawn` (width, height) large, in its own format (PNG, JPEG, WebP).

    A picture of another size, or one that cannot be read, stays as it came.
    """

    def work() -> bytes:
        opened, found = open_image(data)
        if (opened.width, opened.height) != drawn or found.format not in SAVED_AS:
            return data
        return bytes(opened.crop(0, 0, *wanted).write_to_buffer(SAVED_AS[found.format]))

    try:
        return await in_thread(work)
    except (InvalidArgument, pyvips.Error):
        return data


async def is_black(data: bytes) -> bool:
    """Whether a picture is black all over, as some vendors' filters leave it; one that cannot be read is not."""

    def work() -> bool:
        try:
            return bool(_rgb(InputImage(data, "")).max() == 0)
        except (InvalidArgument, pyvips.Error):
            return False

    return await in_thread(work)


async def base64_text(data: bytes) -> str:
    """Base64, off the loop where there is much of it."""
    if len(data) <= THREAD_BYTES:
        return base64.b64encode(data).decode()
    return (await asyncio.to_thread(base64.b64encode, data)).decode()


async def data_url(image: InputImage) -> str:
    """`data:image/png;base64,…`."""
    return f"data:{image.media_type};base64,{await base64_text(image.data)}"


async def _worked(work: Callable[[], T]) -> T:
    try:
        return await in_thread(work)
    except (InvalidArgument, pyvips.Error) as error:
        raise ProviderError(ErrorKind.BAD_REQUEST, "a source picture cannot be read") from error


def _flat(mask: InputImage) -> Any:
    """One channel of 8 bits."""
    opened, _ = open_image(mask.data)
    opened = opened.flatten(background=[0]) if opened.hasalpha() else opened
    return opened.colourspace("b-w").extract_band(0).cast("uchar").copy_memory()


def _rgb(image: InputImage) -> Any:
    opened, _ = open_image(image.data)
    opened = opened.flatten(background=[255]) if opened.hasalpha() else opened
    return opened.colourspace("srgb").cast("uchar")


def _blank(width: int, height: int) -> Any:
    return pyvips.Image.black(width, height)


def _png(image: Any) -> InputImage:
    return InputImage(bytes(image.write_to_buffer(".png[strip]")), PNG)
