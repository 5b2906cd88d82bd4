"""A contact sheet: what the model draws for a list of prompts."""

import textwrap
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

from tools.train_demo.evaluate import paint
from tools.train_demo.export import load

PROMPTS: Final = (
    "a red circle on a white background",
    "a yellow star on a blue background",
    "a pink heart on a dark green background",
    "a green triangle on an orange background",
    "a big purple diamond on a yellow background",
    "a white crescent on a dark blue background",
    "an orange ring on a black background",
    "a turquoise arrow on a brown background",
    "two yellow stars on a dark blue background",
    "three red hearts on a white background",
    "four green squares on a pink background",
    "two white circles on a purple background",
    "a red square left of a yellow circle on a white background",
    "a blue star above a pink heart on a light green background",
    "a white triangle on a brown square on a light blue background",
    "a yellow diamond inside a purple circle on a white background",
    "a yellow house on a light blue background",
    "a red car on a white background",
    "a blue boat on a yellow background",
    "a grey cat on a pink background",
    "an orange fish on a blue background",
    "a pink flower on a light green background",
    "a tree on a light blue background",
    "a red mushroom on a dark green background",
    "a white rocket on a dark blue background",
    "a blue cup on a yellow background",
    "a red balloon on a light blue background",
    "a red car on a white background, cartoon",
    "pixel art of a grey cat on a blue background",
    "a pink heart on a blue background in pastel style",
    "a beach",
    "the open sea",
    "a night sky with stars and a moon",
    "snowy mountains",
    "a forest",
    "a hot desert with sand dunes",
    "a city skyline at night",
    "a sunset over the sea",
    "a meadow with flowers",
    "a red house in a meadow with flowers",
)
_COLUMNS: Final = 8
_SIDE: Final = 128
_TEXT: Final = 40


def write(target: Path, path: Path) -> None:
    """Writes the sheet of the model in `target` to `path`."""
    rows = -(-len(PROMPTS) // _COLUMNS)
    board = Image.new("RGB", (_COLUMNS * (_SIDE + 8), rows * (_SIDE + _TEXT)), "white")
    pen = ImageDraw.Draw(board)
    for number, pixels in enumerate(paint(load(target), list(PROMPTS), seed=7)):
        x, y = number % _COLUMNS * (_SIDE + 8), number // _COLUMNS * (_SIDE + _TEXT)
        board.paste(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x + 4, y + 4))
        pen.text((x + 4, y + _SIDE + 6), textwrap.fill(PROMPTS[number], 22), fill="black", spacing=1, font_size=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    board.quantize(256).save(path, optimize=True)
