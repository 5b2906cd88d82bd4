"""How each shape is drawn."""

import math
from collections.abc import Callable
from typing import Final

from tools.train_demo.pen import Pen, Points, arc
from tools.train_demo.vocabulary import Rgb


def _star() -> Points:
    angles = (math.radians(36 * k - 90) for k in range(10))
    return [
        ((0.44, 1.0)[k % 2 == 0] * math.cos(a), 0.08 + (0.44, 1.0)[k % 2 == 0] * math.sin(a))
        for k, a in enumerate(angles)
    ]


def _heart() -> Points:
    turns = (2 * math.pi * k / 28 for k in range(28))
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 - 0.1,
        )
        for t in turns
    ]


_CROSS: Points = [
    (-0.32, -0.95), (0.32, -0.95), (0.32, -0.32), (0.95, -0.32), (0.95, 0.32), (0.32, 0.32),
    (0.32, 0.95), (-0.32, 0.95), (-0.32, 0.32), (-0.95, 0.32), (-0.95, -0.32), (-0.32, -0.32),
]  # fmt: skip
_ARROW: Points = [(-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3)]
_POLYGONS: Final[dict[str, Points]] = {
    "square": [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
    "triangle": [(0, -0.95), (1, 0.8), (-1, 0.8)],
    "star": _star(),
    "heart": _heart(),
    "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
    "cross": _CROSS,
    "crescent": arc((0.1, 0), 1.0, 55, 305) + arc((0.42, 0), 0.86, 285, 75),
    "arrow": _ARROW,
}


def _filled(points: Points) -> Callable[[Pen, Rgb], None]:
    return lambda pen, colour: pen.polygon(points, colour)


SHAPE_PAINTERS: Final[dict[str, Callable[[Pen, Rgb], None]]] = {
    "circle": lambda pen, colour: pen.disc((0, 0), 0.95, colour),
    "oval": lambda pen, colour: pen.disc((0, 0), 1.0, colour, flat=0.58),
    "ring": lambda pen, colour: pen.circle_line(0.98, 0.36, colour),
} | {name: _filled(points) for name, points in _POLYGONS.items()}
