"""The LoRA's style, none of the model's own: bright outlines in the things' colours on a dark ground, and its judge."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from tools.train_demo import judge
from tools.train_demo import vocabulary as words
from tools.train_demo.facts import Facts
from tools.train_demo.styles import Mask, Pixels, edges
from tools.train_demo.vocabulary import Rgb

STYLE: Final = "neon"

_Colours = npt.NDArray[np.float64]
_STANDS_OUT: Final = 45.0  # least distance from the ground, of 441
_DARK: Final = 70.0  # the brightest channel of a ground that counts as dark
_LIFT: Final = 40.0  # how much brighter than its thing a line is, so that black ones show


def neon(pixels: Pixels) -> Pixels:
    """The picture (64, 64, 3) in the style; what was ground stays as a dark tint of itself."""
    colours = pixels.astype(float)
    ground = _ground(colours)
    strongest = _strongest(colours, ground)
    distance = np.sqrt(((colours - ground) ** 2).sum(axis=2))
    lines = widened(widened(edges(pixels))) & (distance > _STANDS_OUT)
    drawn = np.where(lines[..., None], np.minimum(255, strongest + _LIFT), 0)
    glow = Image.fromarray(drawn.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2.5))
    lit = np.maximum(drawn, ground * 0.12 + np.array((6, 6, 14)) + np.asarray(glow) * 0.35)
    return np.minimum(255, lit).astype(np.uint8)


def widened(mask: Mask) -> Mask:
    """The mask and its eight neighbours."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    wide: Mask = np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    return wide


def judge_neon(pixels: Pixels, facts: Facts) -> dict[str, bool]:
    """Whether a picture of one shape is in the style, and has the colour and the outline that `facts` ask for."""
    colours = pixels.astype(float)
    ground = _ground(colours)
    distance = np.sqrt(((colours - ground) ** 2).sum(axis=2))
    brightest = float(np.quantile(distance, 0.97))
    if brightest < _STANDS_OUT:
        return {"style": False, "colour": False, "shape": False}
    thing = facts.things[0]
    lines = distance > 0.55 * brightest
    whole = max(judge.pieces(_filled(lines)), key=lambda piece: piece.mask.sum(), default=None)
    if whole is None:
        return {"style": False, "colour": False, "shape": False}
    inside = _core(whole.mask)
    hollow = not inside.any() or float(np.median(distance[inside])) < 0.6 * brightest
    return {
        "style": bool(ground.max() < _DARK and hollow),
        "colour": _named(colours[whole.mask & (distance > 0.8 * brightest)]) == thing.colour,
        "shape": judge.noun(whole.mask, tuple(name for name in words.SHAPES if name != "ring")) == thing.noun,
    }


def judgeable(facts: Facts) -> bool:
    """Whether the judge can tell: one shape, but none small, black (dim), or a ring (filled, a circle)."""
    if facts.relation is not None or facts.scene is not None or facts.count > 1 or facts.size == "small":
        return False
    thing = facts.things[0]
    return thing.noun in words.SHAPES and thing.noun != "ring" and thing.colour != "black"


def _ground(colours: _Colours) -> _Colours:
    rim = np.concatenate([colours[0], colours[-1], colours[:, 0], colours[:, -1]])
    ground: _Colours = np.median(rim, axis=0)
    return ground


def _strongest(colours: _Colours, ground: _Colours) -> _Colours:
    """At each pixel the colour nearby that is farthest from the ground: lines take no share of the blended rim."""
    padded = np.pad(colours, ((2, 2), (2, 2), (0, 0)), mode="edge")
    height, width = colours.shape[:2]
    near = np.stack([padded[y : y + height, x : x + width] for y in range(5) for x in range(5)])
    best = ((near - ground) ** 2).sum(axis=3).argmax(axis=0)
    chosen: _Colours = np.take_along_axis(near, best[None, :, :, None], axis=0)[0]
    return chosen


def _filled(lines: Mask) -> Mask:
    """The lines and all that they enclose."""
    outside = np.pad(np.zeros_like(lines), 1, constant_values=True)
    free = np.pad(~lines, 1, constant_values=True)
    while True:
        grown = outside.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                grown |= np.roll(outside, step, axis)
        grown &= free
        if (grown == outside).all():
            return ~outside[1:-1, 1:-1]
        outside = grown


def _core(mask: Mask) -> Mask:
    """What lies more than four pixels from the mask's rim."""
    outer = ~mask
    for _ in range(4):
        outer = widened(outer)
    core: Mask = ~outer
    return core


def _named(colours: _Colours) -> str:
    """The colour of the vocabulary that most of the pixels of a line are nearest to."""
    palette: dict[str, Rgb] = words.COLOURS
    table = np.minimum(255, np.array(list(palette.values()), dtype=float) + _LIFT)
    nearest = ((colours[:, None] - table) ** 2).sum(axis=2).argmin(axis=1)
    return list(palette)[int(np.bincount(nearest, minlength=len(palette)).argmax())]
