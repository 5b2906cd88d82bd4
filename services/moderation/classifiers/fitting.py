"""Pictures as a hosted classifier takes them; for worker threads."""

from __future__ import annotations

from services.moderation.classifiers.base import Picture
from services.moderation.classifiers.vendor import PictureFit

QUALITY = 90


def fitted(picture: Picture, fit: PictureFit) -> tuple[bytes, str]:
    """The bytes and their media type: as they are where they fit, else a smaller, upright JPEG over white."""
    sides = (picture.width, picture.height)
    in_bounds = fit.least_side <= min(sides) and max(sides) <= fit.most_side
    if picture.format in fit.formats and in_bounds and len(picture.data) <= fit.most_bytes:
        return picture.data, f"image/{picture.format}"
    side = fit.most_side
    while True:
        data = _jpeg(picture.data, side, fit.least_side)
        if len(data) <= fit.most_bytes or side <= max(64, fit.least_side):
            return data, "image/jpeg"
        side //= 2


def _jpeg(data: bytes, side: int, least: int) -> bytes:
    """At most `side` pixels wide and high; what is narrower than `least` gets its edges repeated."""
    import pyvips

    image = pyvips.Image.thumbnail_buffer(data, side, height=side, size="down", export_profile="srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    width, height = max(image.width, least), max(image.height, least)
    if (width, height) != (image.width, image.height):
        image = image.gravity("centre", width, height, extend="copy")
    return bytes(image.jpegsave_buffer(Q=QUALITY, keep="none"))
