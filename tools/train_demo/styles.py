"""Drawing styles, as filters over a finished picture."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def edges(pixels: Pixels) -> Mask:
    """Where neighbouring pixels differ clearly; (height, width)."""
    colours = pixels.astype(np.int16)
    found = np.zeros(pixels.shape[:2], dtype=bool)
    found[:, 1:] |= np.abs(np.diff(colours, axis=1)).sum(axis=2) > 70
    found[1:] |= np.abs(np.diff(colours, axis=0)).sum(axis=2) > 70
    return found


def _pixel_art(pixels: Pixels) -> Pixels:
    coarse = pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)).astype(np.uint8)
    drawn: Pixels = coarse.repeat(4, axis=0).repeat(4, axis=1)
    return drawn


def _cartoon(pixels: Pixels) -> Pixels:
    drawn = pixels.copy()
    drawn[edges(pixels)] = 16
    return drawn


def _pastel(pixels: Pixels) -> Pixels:
    drawn: Pixels = (pixels * 0.5 + 122).astype(np.uint8)
    return drawn


def _sketch(pixels: Pixels) -> Pixels:
    grey: npt.NDArray[np.float64] = pixels.mean(axis=2, keepdims=True) * 0.12 + 214
    drawn: Pixels = grey.repeat(3, axis=2).astype(np.uint8)
    drawn[edges(pixels)] = 60
    return drawn


STYLE_FILTERS: Final[dict[str, Callable[[Pixels], Pixels]]] = {
    "pixel art": _pixel_art,
    "cartoon": _cartoon,
    "pastel": _pastel,
    "sketch": _sketch,
}
