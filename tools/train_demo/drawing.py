"""Draws the picture that facts describe: 64 x 64, drawn at twice that and reduced."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from tools.train_demo import facts as fact
from tools.train_demo import vocabulary as words
from tools.train_demo.captions import caption
from tools.train_demo.facts import Facts
from tools.train_demo.pen import Pen
from tools.train_demo.placing import PAINTERS, place
from tools.train_demo.scenes import SCENE_PAINTERS
from tools.train_demo.styles import STYLE_FILTERS, Pixels
from tools.train_demo.vocabulary import Rgb

SIDE: Final = 64
_CANVAS: Final = 2 * SIDE


@dataclass(frozen=True)
class Example:
    """`pixels` is (64, 64, 3)."""

    facts: Facts
    caption: str
    pixels: Pixels


def examples(seed: int) -> Iterator[Example]:
    """An endless stream of training examples; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        facts = fact.sample(rng)
        yield Example(facts, caption(facts, rng), draw(facts, rng))


def draw(facts: Facts, rng: random.Random) -> Pixels:
    """One picture of `facts`; sizes, positions and tints vary with `rng`."""
    ground = _tint(words.BACKGROUNDS[facts.background or "white"], rng)
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), ground)
    board = ImageDraw.Draw(canvas)
    if facts.scene is not None:
        SCENE_PAINTERS[facts.scene](Pen(board, _CANVAS / 2, _CANVAS / 2, _CANVAS / 2), rng)
    tints: dict[str, Rgb] = {}
    for thing, x, y, radius in place(facts, rng):
        tint = tints.setdefault(thing.colour, _tint(words.COLOURS[thing.colour], rng))
        PAINTERS[thing.noun](Pen(board, x, y, radius), tint)
    pixels = np.asarray(canvas.reduce(2))
    return pixels if facts.style is None else STYLE_FILTERS[facts.style](pixels)


def _tint(colour: Rgb, rng: random.Random) -> Rgb:
    red, green, blue = (min(255, max(0, part + rng.randint(-7, 7))) for part in colour)
    return red, green, blue
