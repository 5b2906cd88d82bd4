"""Previews as JPEG: small arrays in, at most 64 KiB out."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

SIDE = 256  # pixels of the longer side
MOST_BYTES = 64 * 1024
QUALITIES = (80, 60, 40, 20)


def jpeg(look: Any) -> bytes:
    """The look, an array (height, width, 3) of bytes, enlarged or reduced to `SIDE`."""
    image = Image.fromarray(look)
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return next(data for data in (_encoded(image, quality) for quality in QUALITIES) if len(data) <= MOST_BYTES)


def _encoded(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
