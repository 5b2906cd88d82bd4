"""Pictures that callers send: their sizes, their pixels, within bounds."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

MOST_PIXELS = 64 * 2**20
FORMATS = ("PNG", "JPEG", "WEBP")
ROTATED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
ORIENTATION = 0x0112


class BadImage(Exception):
    """The bytes are no picture that can be read; the text says what to send."""


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as a viewer shows it, from the header alone; BadImage for anything that is no picture."""
    image = _opened(data)
    width, height = image.size
    if _may_lie_on_its_side(image) and image.getexif().get(ORIENTATION) in ROTATED:
        return height, width
    return width, height


def decoded(data: bytes, mode: str = "RGB") -> Image.Image:
    """The picture upright, in `mode` (`RGB`, or `L` for masks); transparency lies on white. BadImage when broken."""
    image = _opened(data)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image) if _may_lie_on_its_side(image) else image
    except Exception as error:  # Pillow's decoders fail in many ways on bytes that others made
        raise BadImage(f"the image is broken: {error}") from error
    if upright.has_transparency_data:
        opaque = Image.new("RGBA", upright.size, "white")
        opaque.alpha_composite(upright.convert("RGBA"))
        upright = opaque
    return upright.convert(mode)


def _opened(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # noqa: BLE001 - Pillow's parsers fail in many ways on bytes that others made
        raise BadImage("send a PNG, JPEG or WebP image") from None
    if image.width * image.height > MOST_PIXELS:
        raise BadImage(f"send at most {MOST_PIXELS // 2**20} megapixels")
    return image


def _may_lie_on_its_side(image: Image.Image) -> bool:
    """Cameras write no PNG, and a PNG's EXIF may lie behind its pixels."""
    return image.format != "PNG"
