"""PNGs that are cheap to tell apart: one drawn picture, and a text chunk with a serial number after its header.

The chunk starts at a multiple of three bytes and is one long, so that the base64 of everything around it is made once.
"""

from __future__ import annotations

import base64
import itertools
import random
import struct
import zlib
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 33
_FEW_VALUES = bytes(value % 12 for value in range(256))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def draw(side: int, noisy_rows: int) -> bytes:
    """A square RGB picture in which one row in `noisy_rows` is noise, so that it compresses only so far."""
    noise = random.Random(side)
    plain = bytes(itertools.chain.from_iterable((x * 255 // side, 96, 160) for x in range(side)))
    rows = (noise.randbytes(side * 3).translate(_FEW_VALUES) if y % noisy_rows == 0 else plain for y in range(side))
    pixels = b"".join(b"\0" + row for row in rows)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels, 6)) + _chunk(b"IEND", b"")


@dataclass(frozen=True)
class Picture:
    """A picture that can be had any number of times, each time with other bytes."""

    head: bytes
    tail: bytes
    head64: bytes
    tail64: bytes

    @classmethod
    def of(cls, png: bytes) -> Picture:
        head, tail = png[:_HEADER_BYTES], png[_HEADER_BYTES:]
        return cls(head, tail, base64.b64encode(head), base64.b64encode(tail))

    def png(self, serial: int) -> bytes:
        """The bytes of number `serial`."""
        return self.head + self._mark(serial) + self.tail

    def base64(self, serial: int) -> bytes:
        """The same in base64."""
        return self.head64 + base64.b64encode(self._mark(serial)) + self.tail64

    @staticmethod
    def _mark(serial: int) -> bytes:
        return _chunk(b"tEXt", b"Comment\0%016x" % serial)


SIZES = {"tiny": (16, 1), "small": (256, 5), "large": (1024, 1)}
"""Side and noisy rows: about 0.5 KB, 20 KB and 1.5 MB."""


def picture(size: str) -> Picture:
    """The picture of a named size."""
    return Picture.of(draw(*SIZES[size]))
