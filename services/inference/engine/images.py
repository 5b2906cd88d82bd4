"""Pictures that callers send: their sizes, their pixels, within bounds."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

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
    return (height, width) if image.getexif().get(ORIENTATION) in ROTATED else (width, height)


def decoded(data: bytes, mode: str = "RGB") -> Image.Image:
    """The picture upright, in `mode` (`RGB`, or `L` for masks); transparency lies on white. BadImage when broken."""
    try:
        image = ImageOps.exif_transpose(_opened(data))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadImage(f"the image is broken: {error}") from error
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque
    return image.convert(mode)


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImage("send a PNG, JPEG or WebP image") from None
    if image.width * image.height > MOST_PIXELS:
        raise BadImage(f"send at most {MOST_PIXELS // 2**20} megapixels")
    return image
