"""Where the things of a picture go, in canvas pixels (128 x 128)."""

import random
from collections.abc import Callable
from functools import cache
from typing import Final

from PIL import Image, ImageDraw

from tools.train_demo.facts import Facts, Thing
from tools.train_demo.objects import OBJECT_PAINTERS
from tools.train_demo.pen import Pen
from tools.train_demo.shapes import SHAPE_PAINTERS
from tools.train_demo.vocabulary import Rgb

PAINTERS: Final[dict[str, Callable[[Pen, Rgb], None]]] = SHAPE_PAINTERS | OBJECT_PAINTERS
# A thing with its centre and half-size.
Placed = tuple[Thing, float, float, float]


def place(facts: Facts, rng: random.Random) -> list[Placed]:
    """The things of a picture in the order in which they are drawn."""
    if not facts.things:
        return []
    if facts.relation is not None:
        return _place_pair(facts.things, facts.relation, rng)
    thing = facts.things[0]
    if facts.count > 1:
        return [(thing, x, y, r) for x, y, r in _place_several(facts.count, rng)]
    low, high = {None: (28, 48), "small": (18, 25), "big": (46, 54)}[facts.size]
    if facts.scene is not None:
        return [(thing, rng.uniform(44, 84), rng.uniform(72, 84), rng.uniform(26, 34))]
    radius = rng.uniform(low, high)
    slack = min(16.0, 64 - radius - 6)
    return [(thing, 64 + rng.uniform(-slack, slack), 64 + rng.uniform(-slack, slack), radius)]


_LAYOUTS: Final[dict[int, tuple[tuple[tuple[float, float], ...], ...]]] = {
    2: (((34, 64), (94, 64)), ((34, 64), (94, 64)), ((36, 38), (92, 90)), ((92, 38), (36, 90))),
    3: (((64, 34), (34, 92), (94, 92)), ((34, 36), (94, 36), (64, 94)), ((22, 64), (64, 64), (106, 64))),
    4: (((35, 35), (93, 35), (35, 93), (93, 93)),),
}

# Half-sizes of what lies inside of the containers that narrow.
_ROOM: Final = {"heart": (20.0, 24.0), "diamond": (20.0, 24.0)}


def _place_several(count: int, rng: random.Random) -> list[tuple[float, float, float]]:
    layout = rng.choice(_LAYOUTS[count])
    row = len({y for _, y in layout}) == 1 and count == 3
    # Two pixels at least between any two, or a learner of 64 x 64 makes one of them.
    radius = rng.uniform(14, 16) if row else rng.uniform(18.5, 22.5)
    jitter, slack = (1.5, 1.5) if row else (2.5, 4.0)
    dx, dy = rng.uniform(-slack, slack), rng.uniform(-6, 6)
    return [(x + dx + rng.uniform(-jitter, jitter), y + dy + rng.uniform(-jitter, jitter), radius) for x, y in layout]


def _place_pair(things: tuple[Thing, ...], relation: str, rng: random.Random) -> list[Placed]:
    first, second = things
    if relation == "inside":
        x, y, inner = 64 + rng.uniform(-5, 5), 64 + rng.uniform(-5, 5), _ROOM.get(second.noun, (23, 29))
        return [(second, x, y, rng.uniform(51, 55)), (first, x, y + 1, rng.uniform(*inner))]
    radii = rng.uniform(24, 28), rng.uniform(24, 28)
    drift, gap = rng.uniform(-10, 10), rng.uniform(31, 34)
    if relation in ("left of", "right of", "and"):
        side = gap if relation == "right of" else -gap  # what is named first stands left, as one reads
        return [
            (first, 64 + side, 64 + drift + rng.uniform(-6, 6), radii[0]),
            (second, 64 - side, 64 + drift + rng.uniform(-6, 6), radii[1]),
        ]
    side = gap if relation == "below" else -gap
    if relation == "on":
        top = (first, 64 + drift, 0.0, radii[0])
        base = 64 + radii[1] * 0.25 + rng.uniform(0, 8)
        extent = radii[1] * _reach(second.noun, -1) + radii[0] * _reach(first.noun, 1)
        return [(second, 64 + drift, base + 16, radii[1]), (top[0], top[1], base + 17 - extent, top[3])]
    return [
        (first, 64 + drift + rng.uniform(-6, 6), 64 + side, radii[0]),
        (second, 64 + drift + rng.uniform(-6, 6), 64 - side, radii[1]),
    ]


@cache
def _reach(noun: str, direction: int) -> float:
    """How far a thing reaches up (-1) or down (1) from its centre, as a share of its half-size."""
    probe = Image.new("RGB", (100, 100))
    PAINTERS[noun](Pen(ImageDraw.Draw(probe), 50, 50, 40), (255, 255, 255))
    box = probe.getbbox() or (0, 0, 100, 100)
    return (50 - box[1]) / 40 if direction < 0 else (box[3] - 50) / 40
