"""Reads text in pictures (OCR), so that it can be judged as texts are. Off unless the settings ask for it.

PP-OCR's models in the package `rapidocr-onnxruntime` (Apache-2.0, models included; the extra `moderation-ocr`). A
picture takes half a second or more of one core, and the models some 150 MB, which is why it is an option.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from mesh.errors import Unavailable
from services.moderation.classifiers.base import Capability, ClassifierError, Picture, Pixels

NAME = "picture-text"
VERSION = "pp-ocr-v4"
SIDE = 960  # pixels of the longer side, at most, that are read
LONGEST_RATIO = 8  # of the longer side to the shorter; thinner ones get a margin
TIMEOUT = 30.0  # seconds, waiting included
WAITING = 32
CHARACTERS = 8_000  # of one picture

Engine = Callable[..., tuple[Sequence[tuple[Any, str, float]] | None, Any]]


class PictureReader(Protocol):
    """Reads what stands in pictures."""

    name: str
    capability: Capability

    async def read(self, picture: Picture) -> str:
        """The lines, top down; empty where there are none. Raises a MeshError when it cannot read."""
        ...

    async def close(self) -> None:
        """Frees what it holds; may be called twice."""
        ...


class OcrReader:
    """The engine in one thread of its own; `waiting` calls may queue."""

    name = NAME
    capability = Capability(frozenset(), VERSION, TIMEOUT)

    def __init__(self, engine: Engine, waiting: int = WAITING) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=NAME)
        self._room = 1 + waiting

    async def read(self, picture: Picture) -> str:
        """See the port; Unavailable when too many calls wait already."""
        if self._room <= 0:
            raise Unavailable("too many pictures wait to be read", retry_after=1.0)
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, picture)
        finally:
            self._room += 1

    def _read(self, picture: Picture) -> str:
        lines, _ = self._engine(_readable(picture.data), use_cls=False)
        return "\n".join(line[1] for line in lines or ())[:CHARACTERS]

    async def close(self) -> None:
        """Ends the thread; calls that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _readable(data: bytes) -> Pixels:
    """Upright, blue first as the engine wants it, bounded in size and shape."""
    import pyvips

    image = pyvips.Image.thumbnail_buffer(data, SIDE, height=SIDE, size="down", export_profile="srgb")
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=255)
    width, height = (max(side, max(image.width, image.height) // LONGEST_RATIO) for side in (image.width, image.height))
    if (width, height) != (image.width, image.height):
        image = image.gravity("centre", width, height, extend="copy")
    pixels = np.frombuffer(image.cast("uchar").write_to_memory(), np.uint8).reshape(height, width, 3)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def open_reader() -> OcrReader:
    """Loads the engine, in about a second. Raises ClassifierError when the extra is not installed."""
    try:
        from rapidocr_onnxruntime import RapidOCR
    except ImportError as error:
        raise ClassifierError(f"IMAGEMESH_OCR: install the extra moderation-ocr ({error})") from error
    engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1, det_limit_type="max", det_limit_side_len=SIDE)
    return OcrReader(engine)
