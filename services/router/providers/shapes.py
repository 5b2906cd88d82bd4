"""Sizes in vendors' words: names of aspect ratios, and the nearest of a list."""

from __future__ import annotations

import math
from collections.abc import Iterable

from services.router.providers.errors import ErrorKind, ProviderError

TOLERANCE = 0.05
"""How far the ratio of a size may be from a named one, as everywhere in planning."""


def ratio_name(width: int, height: int, names: Iterable[str], separator: str = ":") -> str:
    """The vendor's name (`16:9`) of the aspect ratio nearest to `width` × `height` pixels.

    Raises:
        ProviderError: BAD_REQUEST when none is within the tolerance; the catalog then lists a size it should not.
    """
    wanted = math.log(width / height)

    def distance(name: str) -> float:
        across, down = name.split(separator)
        return abs(math.log(float(across) / float(down)) - wanted)

    nearest = min(names, key=distance)
    if distance(nearest) > math.log(1 + TOLERANCE):
        raise ProviderError(ErrorKind.BAD_REQUEST, f"it draws no picture of the shape {width}x{height}")
    return nearest


def size_text(width: int, height: int) -> str:
    """`1024x768`; empty when no size is asked for."""
    return f"{width}x{height}" if width else ""
