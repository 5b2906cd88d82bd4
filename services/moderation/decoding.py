"""From the bytes of a picture to what the layers look at, in one pass over its pixels; for worker threads.

A picture is shrunk while it is decoded, so 40 megapixels need no more memory than one; every pixel is still decoded,
and a truncated or damaged picture is refused. Models see it as people do: upright, and where it has transparent parts
both over white and with the colours that lie hidden under them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from mesh import imaging
from services.moderation.classifiers.base import Picture, Pixels
from services.moderation.perceptual import Fingerprint, Grey, fingerprint

SIDE = 256  # pixels of the shorter side, at least, where the picture has as many
MOST_SQUARES = 4  # of a long picture; a longer one is squeezed into them
THUMBNAIL = 64  # pixels a side, at least, that go into the hash
PLAIN = ("srgb", "b-w")  # what needs no conversion
LUMA = np.array([299, 587, 114], np.float32)  # ITU-R BT.601, as Pillow and ImageHash weigh them

# EXIF 2.3, tag 274: what makes the stored pixels upright.
UPRIGHT: Mapping[int, Callable[[Pixels], Pixels]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What decoding a picture tells: the hash of its bytes, its size, and what it looks like."""

    picture: Picture
    sha256: str
    fingerprint: Fingerprint


def inspect(data: bytes) -> Inspection:
    """Hashes, decodes and shrinks. Raises as `mesh.imaging` does, and for pictures that move."""
    lazy, info = imaging.open_image(data)
    if _animated(lazy, data):
        raise imaging.unreadable("it is animated; send a single picture")
    shown, bare = _decoded(lazy)
    upright = UPRIGHT.get(_orientation(lazy), _as_stored)
    whole = [upright(shown)] if bare is None else [upright(shown), upright(bare)]
    views = tuple(view for pixels in whole for view in _views(pixels))
    picture = Picture(data, info.format, info.width, info.height, views)
    return Inspection(picture, sha256(data).hexdigest(), fingerprint(_grey(shown)))


def _animated(lazy: Any, data: bytes) -> bool:
    """More than one frame: the decoder would show only the first, and the others would go unjudged."""
    if lazy.get_typeof("n-pages") and lazy.get("n-pages") > 1:
        return True
    return b"acTL" in data[: data.find(b"IDAT")] if imaging.sniff(data) == "png" else False


def _as_stored(pixels: Pixels) -> Pixels:
    return pixels


def _orientation(lazy: Any) -> int:
    return int(lazy.get("orientation")) if lazy.get_typeof("orientation") else 1


def _decoded(lazy: Any) -> tuple[Pixels, Pixels | None]:
    """As people see it over white, and where it is partly transparent also the bare colours."""
    import pyvips

    plain = lazy if lazy.interpretation in PLAIN else lazy.colourspace("srgb")
    plain = plain if plain.format == "uchar" else plain.cast("uchar")
    transparent = plain.bands in (2, 4)
    if transparent:
        plain = plain.flatten(background=255).bandjoin(plain.extract_band(0, n=plain.bands - 1))
    try:
        factors = _factors(plain.width, plain.height)
        small = plain if factors == (1, 1) else plain.shrink(*factors)
        pixels = np.frombuffer(small.write_to_memory(), np.uint8).reshape(small.height, small.width, small.bands)
    except pyvips.Error as error:
        raise imaging.unreadable("it is truncated or damaged") from error
    if not transparent:
        return _coloured(pixels), None
    half = pixels.shape[2] // 2
    shown, bare = _coloured(pixels[..., :half]), _coloured(pixels[..., half:])
    return shown, None if np.array_equal(shown, bare) else bare


def _coloured(pixels: Pixels) -> Pixels:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _factors(width: int, height: int) -> tuple[int, int]:
    """How many pixels become one, across and down."""
    across = SIDE * _squares(width, height) if width > height else SIDE
    down = SIDE * _squares(width, height) if height > width else SIDE
    return max(1, width // across), max(1, height // down)


def _squares(width: int, height: int) -> int:
    """How many squares cover the picture: one unless it is at least twice as long as wide."""
    ratio = max(width, height) / min(width, height)
    return 1 if ratio < 2 else min(MOST_SQUARES, math.ceil(ratio))


def _views(pixels: Pixels) -> Iterator[Pixels]:
    """The whole picture, and where it is long its squares too: squeezed into one, little would be left of them."""
    yield pixels
    long = max(pixels.shape[:2])
    count = _squares(pixels.shape[1], pixels.shape[0])
    axis = 0 if pixels.shape[0] == long else 1
    size = max(min(pixels.shape[:2]), math.ceil(long / count))
    for index in range(count if count > 1 else 0):
        start = round(index * (long - size) / (count - 1))
        yield pixels[start : start + size] if axis == 0 else pixels[:, start : start + size]


def _grey(pixels: Pixels) -> Grey:
    """Grey and small: averaged to a little more than what the hash needs."""
    weighed = pixels.astype(np.float32) @ LUMA  # exact: whole numbers below 2²⁴; several times as fast as in integers
    weighed += 500
    weighed /= 1000
    grey = weighed.astype(np.uint32)
    down, across = (max(1, side // THUMBNAIL) for side in grey.shape)
    height, width = grey.shape[0] // down * down, grey.shape[1] // across * across
    # Whole arrays are added up, which is many times as fast as a mean over boxes.
    rows = reduce(np.add, (grey[start:height:down, :width] for start in range(down)))
    boxes = reduce(np.add, (rows[:, start::across] for start in range(across)))
    averaged: npt.NDArray[np.uint8] = (boxes / (down * across) + 0.5).astype(np.uint8)
    return averaged
