"""How each object is drawn: a main colour, and a few details of its own."""

import math
from collections.abc import Callable
from typing import Final

from tools.train_demo.pen import Pen, arc
from tools.train_demo.vocabulary import Rgb

_WOOD: Rgb = (110, 70, 40)
_GLASS: Rgb = (190, 225, 240)
_DARK: Rgb = (40, 40, 44)
_CREAM: Rgb = (240, 226, 200)
_ROOF: Rgb = (150, 50, 40)
_SAIL: Rgb = (236, 232, 224)
_CORE: Rgb = (250, 210, 60)
_LEAF: Rgb = (50, 130, 60)
_FLAME: Rgb = (250, 150, 40)


def _house(pen: Pen, colour: Rgb) -> None:
    pen.box(-0.75, -0.15, 0.75, 0.95, colour)
    pen.polygon([(-1, -0.15), (0, -0.98), (1, -0.15)], _ROOF)
    pen.box(-0.18, 0.35, 0.18, 0.95, _WOOD)
    pen.box(-0.58, 0.1, -0.28, 0.42, _GLASS)
    pen.box(0.28, 0.1, 0.58, 0.42, _GLASS)


def _car(pen: Pen, colour: Rgb) -> None:
    pen.box(-1, -0.1, 1, 0.45, colour)
    pen.polygon([(-0.62, -0.1), (-0.4, -0.6), (0.35, -0.6), (0.65, -0.1)], colour)
    pen.polygon([(-0.42, -0.12), (-0.28, -0.46), (0.25, -0.46), (0.44, -0.12)], _GLASS)
    for x in (-0.52, 0.52):
        pen.disc((x, 0.45), 0.27, _DARK)


def _boat(pen: Pen, colour: Rgb) -> None:
    pen.box(-0.06, -0.95, 0.06, 0.3, _WOOD)
    pen.polygon([(0.1, -0.9), (0.8, 0.15), (0.1, 0.15)], _SAIL)
    pen.polygon([(-1, 0.3), (1, 0.3), (0.65, 0.85), (-0.65, 0.85)], colour)


def _cat(pen: Pen, colour: Rgb) -> None:
    pen.polygon([(-0.85, -0.1), (-0.8, -0.98), (-0.2, -0.5)], colour)
    pen.polygon([(0.85, -0.1), (0.8, -0.98), (0.2, -0.5)], colour)
    pen.disc((0, 0.1), 0.88, colour, flat=0.9)
    for x in (-0.36, 0.36):
        pen.disc((x, -0.05), 0.17, (235, 240, 120))
        pen.disc((x, -0.05), 0.08, _DARK)
    pen.polygon([(-0.12, 0.3), (0.12, 0.3), (0, 0.45)], (230, 120, 140))


def _fish(pen: Pen, colour: Rgb) -> None:
    pen.polygon([(-0.45, 0), (-1, -0.5), (-1, 0.5)], colour)
    pen.disc((0.2, 0), 0.8, colour, flat=0.62)
    pen.disc((0.62, -0.12), 0.13, (250, 250, 250))
    pen.disc((0.65, -0.12), 0.07, _DARK)


def _flower(pen: Pen, colour: Rgb) -> None:
    pen.box(-0.07, 0, 0.07, 1, _LEAF)
    pen.disc((0.3, 0.7), 0.26, _LEAF, flat=0.5)
    for k in range(6):
        angle = math.radians(60 * k)
        pen.disc((0.42 * math.cos(angle), -0.3 + 0.42 * math.sin(angle)), 0.28, colour)
    pen.disc((0, -0.3), 0.26, _CORE)


def _tree(pen: Pen, colour: Rgb) -> None:
    pen.box(-0.15, 0.3, 0.15, 1, _WOOD)
    pen.disc((0, -0.5), 0.5, colour)
    pen.disc((-0.4, 0), 0.48, colour)
    pen.disc((0.4, 0), 0.48, colour)


def _balloon(pen: Pen, colour: Rgb) -> None:
    pen.box(-0.03, 0.4, 0.03, 1, _DARK)
    pen.disc((0, -0.3), 0.66, colour, flat=1.08)
    pen.polygon([(-0.14, 0.52), (0.14, 0.52), (0, 0.36)], colour)


def _mushroom(pen: Pen, colour: Rgb) -> None:
    pen.box(-0.26, 0, 0.26, 0.95, _CREAM)
    pen.polygon(arc((0, 0.12), 0.98, 180, 360), colour)
    for at in ((-0.45, -0.2), (0.05, -0.5), (0.5, -0.15)):
        pen.disc(at, 0.14, _CREAM)


def _rocket(pen: Pen, colour: Rgb) -> None:
    pen.polygon([(-0.2, 0.55), (0.2, 0.55), (0, 1)], _FLAME)
    pen.polygon([(-0.75, 0.65), (-0.3, 0), (0.3, 0), (0.75, 0.65)], _ROOF)
    pen.polygon([(0, -1), (0.34, -0.45), (0.34, 0.6), (-0.34, 0.6), (-0.34, -0.45)], colour)
    pen.disc((0, -0.2), 0.18, _GLASS)


def _cup(pen: Pen, colour: Rgb) -> None:
    Pen(pen.draw, pen.x + 0.6 * pen.radius, pen.y, pen.radius).circle_line(0.4, 0.16, colour)
    pen.polygon([(-0.8, -0.7), (0.6, -0.7), (0.45, 0.75), (-0.65, 0.75)], colour)
    pen.disc((-0.1, -0.7), 0.7, _WOOD, flat=0.2)


OBJECT_PAINTERS: Final[dict[str, Callable[[Pen, Rgb], None]]] = {
    "house": _house,
    "car": _car,
    "boat": _boat,
    "cat": _cat,
    "fish": _fish,
    "flower": _flower,
    "tree": _tree,
    "balloon": _balloon,
    "mushroom": _mushroom,
    "rocket": _rocket,
    "cup": _cup,
}
