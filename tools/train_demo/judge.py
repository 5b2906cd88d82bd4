"""Judges a picture against the facts it should show, by pixels alone: colours, outlines, pieces, centres."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.train_demo import vocabulary as words
from tools.train_demo.drawing import draw
from tools.train_demo.facts import Facts, Thing
from tools.train_demo.styles import Pixels
from tools.train_demo.vocabulary import Rgb

Mask = npt.NDArray[np.bool_]
Colour = npt.NDArray[np.float64]

_STANDS_OUT: Final = 45.0  # least distance from the background, of 441
_LEAST_AREA: Final = 20  # pixels; less is dust
_OUTLINE: Final = 24  # side of the outlines that are compared


@dataclass(frozen=True)
class Piece:
    """A connected part of the picture that stands out from its background."""

    mask: Mask

    @property
    def centre(self) -> tuple[float, float]:
        """x and y in pixels."""
        y, x = np.nonzero(self.mask)
        return float(x.mean()), float(y.mean())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, the last two exclusive."""
        y, x = np.nonzero(self.mask)
        return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def judge(pixels: Pixels, facts: Facts) -> dict[str, bool]:
    """Which of the promises of `facts` the picture keeps."""
    if facts.scene is not None:
        return {"scene": scene(pixels) == facts.scene}
    verdict = {"background": background(pixels) == facts.background}
    if facts.relation is not None:
        return verdict | _judge_pair(pixels, facts)
    thing, found = facts.things[0], pieces(_foreground(pixels))
    if facts.count > 1:
        right = [piece for piece in found if main_colour(pixels, piece.mask) == thing.colour]
        alike = bool(found) and all(noun(piece.mask, _rivals(thing)) == thing.noun for piece in found)
        verdict |= {"count": len(found) == facts.count, "colour": bool(found) and len(right) == len(found)}
        return verdict | {"shape": alike}
    whole = max(found, key=lambda piece: piece.mask.sum(), default=None)
    if whole is None:
        return verdict | {"colour": False, "shape": False, "count": False}
    verdict |= {"colour": _has_colour(pixels, whole.mask, thing), "count": len(found) == 1}
    return verdict | {"shape": noun(whole.mask, _rivals(thing)) == thing.noun}


def scene(pixels: Pixels) -> str:
    """The scene whose mean thumbnail is nearest."""
    thumbnail = _thumbnail(pixels)
    return min(words.SCENES, key=lambda name: float(((thumbnail - _mean_thumbnail(name)) ** 2).sum()))


def background(pixels: Pixels) -> str:
    """The name of the colour along the picture's edge."""
    return _nearest(_edge_colour(pixels)[None], words.BACKGROUNDS)[0]


def pieces(mask: Mask) -> list[Piece]:
    """The connected pieces of a mask (eight neighbours), without dust."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    while left:
        queue, piece = [left.pop()], np.zeros_like(mask)
        while queue:
            y, x = queue.pop()
            piece[y, x] = True
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        if piece.sum() >= _LEAST_AREA:
            found.append(Piece(piece))
    return found


def main_colour(pixels: Pixels, mask: Mask) -> str:
    """The commonest colour name inside a mask, away from its blended rim."""
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(mask, step, axis)
    chosen = pixels[inner if inner.sum() >= 6 else mask].astype(float)
    names = _nearest(chosen, words.COLOURS)
    return max(set(names), key=names.count)


def noun(mask: Mask, rivals: tuple[str, ...]) -> str:
    """Which of `rivals` has the outline most like the mask's."""
    outline = _outline(mask)
    return max(rivals, key=lambda name: _overlap(outline, _template(name)))


def _judge_pair(pixels: Pixels, facts: Facts) -> dict[str, bool]:
    first, second = (_of_colour(pixels, facts, thing) for thing in facts.things)
    verdict = {"colours": first is not None and second is not None}
    if first is None or second is None:
        return verdict | {"bound": False, "position": False}
    masks = [first.mask, second.mask]
    if facts.relation == "inside":
        masks[1] = masks[1] | masks[0]
    bound = all(noun(mask, _rivals(thing)) == thing.noun for mask, thing in zip(masks, facts.things, strict=True))
    return verdict | {"bound": bound, "position": _POSITIONS[facts.relation or "and"](first, second)}


def _of_colour(pixels: Pixels, facts: Facts, thing: Thing) -> Piece | None:
    """The largest piece nearer to the thing's colour than to the other thing's or the background's."""
    colours = [np.array(words.COLOURS[other.colour], dtype=float) for other in facts.things]
    distances = np.stack([_distance(pixels, colour) for colour in (*colours, _edge_colour(pixels))])
    mine = facts.things.index(thing)
    mask = (distances.argmin(axis=0) == mine) & (distances[mine] < 90)
    return max(pieces(mask), key=lambda piece: piece.mask.sum(), default=None)


def _on(first: Piece, second: Piece) -> bool:
    touching = abs(first.box[3] - second.box[1]) <= 6
    return touching and first.centre[1] < second.centre[1] and abs(first.centre[0] - second.centre[0]) < 14


def _inside(first: Piece, second: Piece) -> bool:
    left, top, right, bottom = second.box
    x, y = first.centre
    return left < x < right and top < y < bottom and bool(first.mask.sum() < second.mask.sum())


_POSITIONS: Final[dict[str, Callable[[Piece, Piece], bool]]] = {
    "left of": lambda first, second: first.centre[0] < second.centre[0] - 6,
    "right of": lambda first, second: first.centre[0] > second.centre[0] + 6,
    "above": lambda first, second: first.centre[1] < second.centre[1] - 6,
    "below": lambda first, second: first.centre[1] > second.centre[1] + 6,
    "on": _on,
    "inside": _inside,
    "and": lambda first, second: abs(first.centre[0] - second.centre[0]) > 10,
}


def _has_colour(pixels: Pixels, mask: Mask, thing: Thing) -> bool:
    """Shapes are of one colour; of an object a fifth must have the colour named."""
    if thing.noun in words.SHAPES:
        return main_colour(pixels, mask) == thing.colour
    names = _nearest(pixels[mask].astype(float), words.COLOURS)
    return names.count(thing.colour) >= 0.2 * len(names)


def _rivals(thing: Thing) -> tuple[str, ...]:
    return tuple(words.SHAPES if thing.noun in words.SHAPES else words.OBJECTS)


def _edge_colour(pixels: Pixels) -> Colour:
    rim = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, 0], pixels[:, -1]])
    colour: Colour = np.median(rim.astype(float), axis=0)
    return colour


def _foreground(pixels: Pixels) -> Mask:
    return _distance(pixels, _edge_colour(pixels)) > _STANDS_OUT


def _distance(pixels: Pixels, colour: Colour) -> Colour:
    distance: Colour = np.sqrt(((pixels.astype(float) - colour) ** 2).sum(axis=2))
    return distance


def _nearest(colours: Colour, palette: dict[str, Rgb]) -> list[str]:
    table = np.array(list(palette.values()), dtype=float)
    names = list(palette)
    return [names[k] for k in ((colours[:, None] - table) ** 2).sum(axis=2).argmin(axis=1)]


def _outline(mask: Mask) -> Colour:
    """The mask's bounding box, padded to a square, at a fixed size; 0 to 1."""
    left, top, right, bottom = Piece(mask).box
    side = max(right - left, bottom - top)
    square = np.zeros((side, side), dtype=np.uint8)
    y, x = (side - bottom + top) // 2, (side - right + left) // 2
    square[y : y + bottom - top, x : x + right - left] = mask[top:bottom, left:right] * np.uint8(255)
    small = Image.fromarray(square).resize((_OUTLINE, _OUTLINE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=float) / 255


def _overlap(one: Colour, other: Colour) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


@cache
def _template(name: str) -> Colour:
    facts = Facts((Thing(name, "purple"),), background="yellow", size="big")
    return _outline(_foreground(draw(facts, random.Random(0))))


def _thumbnail(pixels: Pixels) -> Colour:
    thumbnail: Colour = pixels.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    return thumbnail


@cache
def _mean_thumbnail(name: str) -> Colour:
    drawn = [_thumbnail(draw(Facts(scene=name), random.Random(seed))) for seed in range(64)]
    mean: Colour = np.mean(drawn, axis=0)
    return mean
