"""Edges as guides for the ControlNet, and how well a picture keeps to them."""

from dataclasses import dataclass

import numpy as np

from tools.train_demo.neon import widened
from tools.train_demo.styles import Mask, Pixels, edges


def guide(pixels: Pixels, thick: bool = False) -> Pixels:
    """The picture's edges, white on black, (height, width, 3)."""
    found = widened(edges(pixels)) if thick else edges(pixels)
    drawn: Pixels = np.repeat(found[..., None], 3, axis=2).astype(np.uint8) * np.uint8(255)
    return drawn


@dataclass(frozen=True)
class Agreement:
    """`overlap`: share of both pictures' edges that lie within a pixel of the other's (intersection over union).

    `distance`: how far a pixel of the edges of one is from the nearest of the other's, in pixels, averaged over both
    ways (the chamfer distance).
    """

    overlap: float
    distance: float


def agreement(one: Mask, other: Mask) -> Agreement:
    """How alike two edge masks are; (height, width)."""
    if not one.any() or not other.any():
        return Agreement(0.0, float(max(one.shape)))
    there, back = _distances(one, other), _distances(other, one)
    dice = float((there <= 1.5).sum() + (back <= 1.5).sum()) / (len(there) + len(back))
    return Agreement(dice / (2 - dice), float(there.mean() + back.mean()) / 2)


def _distances(one: Mask, other: Mask) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """From each pixel of `one` to the nearest of `other`."""
    here, there = np.argwhere(one).astype(float), np.argwhere(other).astype(float)
    squares: np.ndarray[tuple[int], np.dtype[np.float64]] = ((here[:, None] - there[None]) ** 2).sum(axis=2).min(axis=1)
    return np.sqrt(squares)
