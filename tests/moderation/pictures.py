"""Pictures that the tests draw: scenes with structure, and what happens to pictures on their way around."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pyvips

Picture = Any  # pyvips has no type information


def scene(seed: int, side: int = 256) -> Picture:
    """A colourful scene of shapes on a gradient; equal seeds give equal pictures."""
    rng = random.Random(seed)
    ramp = pyvips.Image.xyz(side, side)
    canvas = ramp[0].bandjoin([ramp[1], ramp[0] + ramp[1]]) * (rng.uniform(60, 160) / side)
    canvas = canvas.cast("uchar").copy(interpretation="srgb")
    for _ in range(8):
        ink = [rng.randrange(256) for _ in range(3)]
        x, y = rng.randrange(side), rng.randrange(side)
        if rng.random() < 0.5:
            canvas = canvas.draw_circle(ink, x, y, rng.randrange(side // 10, side // 3), fill=True)
        else:
            canvas = canvas.draw_rect(ink, x, y, rng.randrange(side // 8, side // 2), side // 5, fill=True)
    return canvas


def encode(picture: Picture, suffix: str = ".png") -> bytes:
    return bytes(picture.write_to_buffer(suffix))


def flat(side: int = 256, level: int = 200) -> Picture:
    return (pyvips.Image.black(side, side, bands=3) + level).cast("uchar").copy(interpretation="srgb")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost no data."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def animated_png(picture: Picture) -> bytes:
    """A PNG with the chunk that makes it an animation."""
    plain = encode(picture)
    return plain[:33] + _chunk(b"acTL", struct.pack(">II", 2, 0)) + plain[33:]


def animated_webp(first: Picture, second: Picture) -> bytes:
    joined = pyvips.Image.arrayjoin([first, second], across=1).copy()
    joined.set_type(pyvips.GValue.gint_type, "page-height", first.height)
    return encode(joined, ".webp")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


TRANSFORMS: dict[str, Callable[[Picture], bytes]] = {
    "same pixels, other compression": lambda p: encode(p, ".png[compression=1]"),
    "JPEG at 85": lambda p: encode(p, ".jpg[Q=85]"),
    "JPEG at 40": lambda p: encode(p, ".jpg[Q=40]"),
    "WebP at 60": lambda p: encode(p, ".webp[Q=60]"),
    "half the size": lambda p: encode(p.resize(0.5)),
    "twice the size": lambda p: encode(p.resize(2)),
    "stretched": lambda p: encode(p.resize(1.5, vscale=0.75)),
    "grey": lambda p: encode(p.colourspace("b-w")),
    "brighter": lambda p: encode((p * 1.1 + 8).cast("uchar").copy(interpretation="srgb")),
    "16 bits": lambda p: encode(p.colourspace("rgb16")),
    "with alpha": lambda p: encode(p.bandjoin(255)),
    "flipped left to right": lambda p: encode(p.fliphor()),
    "flipped upside down": lambda p: encode(p.flipver()),
    "turned by 90": lambda p: encode(p.rot90()),
    "turned by 180": lambda p: encode(p.rot180()),
    "turned by 270": lambda p: encode(p.rot270()),
    "mirrored and turned": lambda p: encode(p.fliphor().rot90()),
    "mirrored, turned, small JPEG": lambda p: encode(p.fliphor().rot270().resize(0.4), ".jpg[Q=70]"),
}
