"""How each scene is drawn, on a canvas of unit coordinates (-1 to 1)."""

import random
from collections.abc import Callable
from typing import Final

from tools.train_demo.objects import OBJECT_PAINTERS
from tools.train_demo.pen import Pen
from tools.train_demo.vocabulary import Rgb

_SUN: Rgb = (252, 220, 90)
_SKY: Rgb = (130, 195, 245)
_NIGHT: Rgb = (14, 18, 54)
_MOON: Rgb = (244, 240, 210)
_WATER: Rgb = (36, 110, 190)
_SAND: Rgb = (236, 208, 146)
_GRASS: Rgb = (96, 176, 74)
_SNOW: Rgb = (240, 245, 250)


def _bands(pen: Pen, bands: list[tuple[float, Rgb]]) -> None:
    """Horizontal bands, each from its height down to the bottom."""
    for top, colour in bands:
        pen.box(-1.1, top, 1.1, 1.1, colour)


def _beach(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, _SKY), (rng.uniform(-0.25, -0.1), _WATER)])
    top = rng.uniform(0.15, 0.35)
    pen.polygon([(-1.1, top), (1.1, top - 0.2), (1.1, 1.1), (-1.1, 1.1)], _SAND)
    pen.disc((rng.choice((-0.6, 0.6)), -0.65), 0.2, _SUN)


def _sea(pen: Pen, rng: random.Random) -> None:
    horizon = rng.uniform(-0.15, 0.1)
    _bands(pen, [(-1.1, _SKY), (horizon, _WATER), (horizon + 0.5, (24, 84, 160))])
    for _ in range(2):
        pen.disc((rng.uniform(-0.8, 0.8), rng.uniform(-0.8, -0.5)), 0.28, (250, 250, 252), flat=0.45)


def _night(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, _NIGHT)])
    for _ in range(14):
        pen.disc((rng.uniform(-0.95, 0.95), rng.uniform(-0.95, 0.95)), rng.uniform(0.025, 0.05), (255, 255, 225))
    pen.disc((rng.choice((-0.5, 0.5)), -0.5), 0.26, _MOON)


def _mountains(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, _SKY), (0.5, _GRASS)])
    for centre in (-0.55 + rng.uniform(-0.15, 0.15), 0.5 + rng.uniform(-0.15, 0.15)):
        peak = rng.uniform(-0.75, -0.35)
        pen.polygon([(centre - 0.7, 0.55), (centre, peak), (centre + 0.7, 0.55)], (110, 116, 130))
        cap = (0.55 - peak) * 0.35
        width = 0.7 * 0.35
        pen.polygon([(centre - width, peak + cap), (centre, peak), (centre + width, peak + cap)], _SNOW)


def _forest(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, (170, 215, 225)), (0.3, (60, 120, 56))])
    for k in range(5):
        x, base = -0.8 + 0.4 * k + rng.uniform(-0.06, 0.06), rng.uniform(0.3, 0.55)
        pen.box(x - 0.05, base, x + 0.05, base + 0.2, (100, 66, 40))
        pen.polygon([(x - 0.25, base), (x, base - 1.05), (x + 0.25, base)], (26, 92, 50))


def _desert(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, (250, 205, 130)), (0.15, (226, 170, 90))])
    pen.disc((rng.uniform(-0.7, 0.7), 1.0), 1.0, (206, 146, 72), flat=0.7)
    pen.disc((rng.choice((-0.55, 0.55)), -0.55), 0.26, (255, 240, 170))


def _city(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, (24, 24, 66)), (0.8, (52, 52, 60))])
    for k in range(5):
        left, top = -1 + 0.41 * k, rng.uniform(-0.65, 0.1)
        pen.box(left, top, left + 0.34, 0.8, (72, 76, 98))
        for row in range(3):
            for column in (0.07, 0.2):
                y = top + 0.1 + 0.22 * row
                pen.box(left + column, y, left + column + 0.08, y + 0.11, (250, 220, 110))


def _sunset(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, (150, 70, 120)), (-0.6, (226, 104, 84)), (-0.2, (250, 160, 80))])
    pen.disc((rng.uniform(-0.4, 0.4), 0.12), 0.36, (255, 226, 120))
    _bands(pen, [(0.2, (70, 50, 110)), (0.6, (50, 36, 88))])


def _meadow(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, _SKY), (rng.uniform(-0.1, 0.1), _GRASS)])
    pen.disc((rng.choice((-0.6, 0.6)), -0.65), 0.2, _SUN)
    for _ in range(9):
        colour = rng.choice(((240, 70, 80), (250, 220, 70), (245, 245, 245)))
        pen.disc((rng.uniform(-0.95, 0.95), rng.uniform(0.2, 0.95)), 0.07, colour)


def _snow(pen: Pen, rng: random.Random) -> None:
    _bands(pen, [(-1.1, (150, 170, 196)), (rng.uniform(0.15, 0.35), _SNOW)])
    OBJECT_PAINTERS["tree"](Pen(pen.draw, pen.x * 1.6, pen.y, pen.radius * 0.3), (60, 110, 80))
    for _ in range(14):
        pen.disc((rng.uniform(-0.95, 0.95), rng.uniform(-0.95, 0.3)), 0.045, (252, 252, 255))


SCENE_PAINTERS: Final[dict[str, Callable[[Pen, random.Random], None]]] = {
    "beach": _beach,
    "sea": _sea,
    "night sky": _night,
    "mountains": _mountains,
    "forest": _forest,
    "desert": _desert,
    "city": _city,
    "sunset": _sunset,
    "meadow": _meadow,
    "snow": _snow,
}
