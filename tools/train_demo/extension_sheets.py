"""Contact sheets of the LoRA and the ControlNet, each picture beside what the model draws without them."""

import random
import textwrap
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from tools.train_demo.drawing import draw
from tools.train_demo.edges import guide
from tools.train_demo.evaluate import paint
from tools.train_demo.export import load
from tools.train_demo.extension_scores import paint_guided, with_control, with_lora
from tools.train_demo.facts import Facts, Thing
from tools.train_demo.styles import Pixels

STYLED: Final = (
    "a red circle on a white background",
    "a yellow star on a blue background",
    "a pink heart on a dark green background",
    "a turquoise arrow on a brown background",
    "a green triangle on an orange background",
    "a big purple diamond on a yellow background",
    "two yellow stars on a dark blue background",
    "three red hearts on a white background",
    "a white triangle left of an orange circle on a blue background",
    "a blue star above a pink heart on a light green background",
    "a yellow house on a light blue background",
    "an orange fish on a blue background",
    "a grey cat on a pink background",
    "a white rocket on a dark blue background",
    "a blue cup on a yellow background",
    "a red mushroom on a dark green background",
)
# What the guides show, and what is asked along their edges.
GUIDED: Final[tuple[tuple[Facts, str], ...]] = (
    (Facts((Thing("star", "red"),), "white", size="big"), "a yellow star on a blue background"),
    (Facts((Thing("heart", "red"),), "white", size="small"), "a green heart on a pink background"),
    (Facts((Thing("arrow", "red"),), "white"), "an orange arrow on a black background"),
    (Facts((Thing("crescent", "red"),), "white", size="big"), "a white crescent on a dark blue background"),
    (Facts((Thing("cross", "red"),), "white"), "a turquoise cross on a brown background"),
    (Facts((Thing("house", "red"),), "white"), "a yellow house on a light blue background"),
    (Facts((Thing("fish", "blue"),), "white", size="big"), "an orange fish on a turquoise background"),
    (Facts((Thing("cat", "blue"),), "white"), "a grey cat on a light green background"),
    (Facts((Thing("star", "red"),), "white", count=4), "four white stars on a purple background"),
    (Facts((Thing("square", "red"),), "white", count=3), "three pink squares on a dark green background"),
    (
        Facts((Thing("star", "red"), Thing("square", "blue")), "white", relation="above"),
        "a yellow star above a red square on a white background",
    ),
    (
        Facts((Thing("cross", "red"), Thing("circle", "blue")), "white", relation="inside"),
        "a white cross inside a green circle on a yellow background",
    ),
)
_SIDE: Final = 96
_GAP: Final = 4
_TEXT: Final = 40
_COLUMNS: Final = 4


def write_lora(target: Path, path: Path) -> None:
    """Pairs of the same prompt and seed: without the LoRA, with it."""
    captions = list(STYLED)
    columns = [paint(load(target), captions, seed=7), paint(with_lora(target), captions, seed=7)]
    _write(columns, captions, path)


def write_control(target: Path, path: Path) -> None:
    """The guide, what is drawn along it, and what the same prompt and seed give without."""
    rng = random.Random(41)
    guides = [guide(draw(facts, rng)) for facts, _ in GUIDED]
    captions = [text for _, text in GUIDED]
    guided = paint_guided(with_control(target), captions, guides, seed=7)
    _write([guides, guided, paint(load(target), captions, seed=7)], captions, path)


def _write(columns: list[list[Pixels]], captions: list[str], path: Path) -> None:
    """A cell for each caption, with its picture of each column side by side."""
    wide, high = len(columns) * (_SIDE + _GAP) + 3 * _GAP, _SIDE + _TEXT
    board = Image.new("RGB", (_COLUMNS * wide, -(-len(captions) // _COLUMNS) * high), "white")
    pen = ImageDraw.Draw(board)
    for number, text in enumerate(captions):
        x, y = number % _COLUMNS * wide + 2 * _GAP, number // _COLUMNS * high + _GAP
        for place, pictures in enumerate(columns):
            picture = Image.fromarray(np.asarray(pictures[number])).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            board.paste(picture, (x + place * (_SIDE + _GAP), y))
        pen.text((x, y + _SIDE + 2), textwrap.fill(text, 16 * len(columns)), fill="black", spacing=1, font_size=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    board.quantize(256).save(path, optimize=True)
