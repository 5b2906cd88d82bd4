"""Decoding of untrusted images under caps, through libvips, outside the event loop.

Only PNG, JPEG and WebP are accepted, told by their first bytes before any decoder sees them, so that nobody reaches
libvips' rarer loaders.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from mesh.errors import InvalidArgument

MAX_PIXELS = 40_000_000
MAX_BYTES = 64 * 1024 * 1024
THREADS = 2

T = TypeVar("T")


@dataclass(frozen=True)
class ImageInfo:
    """What an image's header says. format: `png`, `jpeg` or `webp`; sizes in pixels; size in bytes."""

    width: int
    height: int
    format: str
    size: int

    @property
    def media_type(self) -> str:
        """The IANA media type."""
        return f"image/{self.format}"


def sniff(data: bytes) -> str:
    """The format by its first bytes: `png`, `jpeg`, `webp`, or an empty string."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return ""


def probe(data: bytes) -> ImageInfo:
    """Reads the header only.

    Raises InvalidArgument: IMAGE_UNREADABLE when it is no PNG, JPEG or WebP, IMAGE_TOO_LARGE above 40 megapixels or
    64 MiB.
    """
    _opened, info = open_image(data)
    return info


def open_image(data: bytes) -> tuple[Any, ImageInfo]:
    """A lazy `pyvips.Image` whose header passed the caps, and that header; pixels are not decoded yet."""
    pyvips = _vips()
    kind = sniff(data)
    if not kind:
        raise unreadable("not a PNG, JPEG or WebP image")
    if len(data) > MAX_BYTES:
        raise _too_large(f"{len(data)} bytes; at most {MAX_BYTES} can be taken")
    try:
        image = pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on="truncated")
    except pyvips.Error as error:
        raise unreadable("its header is broken") from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(f"{image.width} × {image.height} pixels; at most {MAX_PIXELS:,} can be decoded")
    return image, ImageInfo(image.width, image.height, kind, len(data))


def decode_all(data: bytes) -> ImageInfo:
    """Decodes every pixel and keeps none; for worker threads. Raises like `probe`, also for truncated images."""
    image, info = open_image(data)
    try:
        image.avg()
    except _vips().Error as error:
        raise unreadable("it is truncated or damaged") from error
    return info


async def decode_check(data: bytes) -> ImageInfo:
    """`decode_all` in the imaging threads."""
    return await in_thread(lambda: decode_all(data))


async def in_thread(work: Callable[[], T]) -> T:
    """Runs CPU work on images in a pool of two threads (libvips leaves the interpreter lock)."""
    return await asyncio.get_running_loop().run_in_executor(_pool(), work)


def unreadable(why: str) -> InvalidArgument:
    """The error for bytes that are not a whole image."""
    return InvalidArgument(f"the image cannot be read: {why}", reason="IMAGE_UNREADABLE")


def _too_large(why: str) -> InvalidArgument:
    return InvalidArgument(f"the image is too large: {why}", reason="IMAGE_TOO_LARGE")


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="imaging")


@lru_cache(maxsize=1)
def _vips() -> Any:
    """pyvips, with one libvips thread an image (the pool gives the parallelism) and no operation cache."""
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips
