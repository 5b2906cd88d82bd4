"""A pen that draws in unit coordinates (-1 to 1, y downwards) around a centre."""

import math
from dataclasses import dataclass

from PIL import ImageDraw

from tools.train_demo.vocabulary import Rgb

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Pen:
    """Centre and half-size are in canvas pixels."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    radius: float

    def polygon(self, points: Points, fill: Rgb) -> None:
        """A filled polygon."""
        self.draw.polygon([(self.x + px * self.radius, self.y + py * self.radius) for px, py in points], fill=fill)

    def disc(self, at: tuple[float, float], size: float, fill: Rgb, flat: float = 1.0) -> None:
        """A filled ellipse of half-width `size` and half-height `size * flat`."""
        x, y = self.x + at[0] * self.radius, self.y + at[1] * self.radius
        w, h = size * self.radius, size * flat * self.radius
        self.draw.ellipse((x - w, y - h, x + w, y + h), fill=fill)

    def circle_line(self, size: float, width: float, fill: Rgb) -> None:
        """A circle of radius `size`, `width` thick, hollow."""
        w = size * self.radius
        box = (self.x - w, self.y - w, self.x + w, self.y + w)
        self.draw.ellipse(box, outline=fill, width=max(1, round(width * self.radius)))

    def box(self, left: float, top: float, right: float, bottom: float, fill: Rgb) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], fill)


def arc(at: tuple[float, float], radius: float, start: float, stop: float, steps: int = 14) -> Points:
    """Points of a circular arc; angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (stop - start) * step / steps) for step in range(steps + 1))
    return [(at[0] + radius * math.cos(a), at[1] + radius * math.sin(a)) for a in angles]
