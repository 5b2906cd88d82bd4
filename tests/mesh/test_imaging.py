"""Untrusted images: what is refused, and how it is said."""

import struct
import zlib

import pytest
import pyvips

from mesh.errors import InvalidArgument
from mesh.imaging import decode_check, probe


def png(width: int = 64, height: int = 64) -> bytes:
    return bytes(pyvips.Image.black(width, height, bands=3).pngsave_buffer())


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header that announces a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "IMAGE_UNREADABLE"),
        (b"not an image at all", "IMAGE_UNREADABLE"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "IMAGE_UNREADABLE"),
        (b"\x89PNG\r\n\x1a\n", "IMAGE_UNREADABLE"),
        (pyvips.Image.gaussnoise(64, 64).cast("uchar").pngsave_buffer()[:2000], "IMAGE_UNREADABLE"),
        (bomb(30_000, 30_000), "IMAGE_TOO_LARGE"),
    ],
    ids=["empty", "text", "svg", "magic-only", "truncated", "bomb"],
)
async def test_bad_images_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await decode_check(data)
    assert caught.value.reason == reason


async def test_good_images_tell_their_size() -> None:
    info = await decode_check(png(64, 48))
    assert (info.width, info.height, info.media_type) == (64, 48, "image/png")


def test_probe_reads_the_header_only() -> None:
    noise = pyvips.Image.gaussnoise(64, 64).cast("uchar").pngsave_buffer()
    assert probe(noise[:2000]).width == 64
