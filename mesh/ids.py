"""Identifiers: time-ordered ones for new things, derived ones where a repeat must give the same id."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

# Crockford's base 32 in lower case: sorts like the bytes it encodes and has no look-alikes.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26


def _encode(number: int) -> str:
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(5 * (LENGTH - 1), -1, -5))


def new_id(
    prefix: str,
    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    randomness: Callable[[int], bytes] = os.urandom,
) -> str:
    """`<prefix>_` and 26 characters: 48 bits of milliseconds, then 80 random bits (the layout of a ULID)."""
    return f"{prefix}_{_encode((clock_ms() << 80) | int.from_bytes(randomness(10), 'big'))}"


def derived_id(prefix: str, *parts: str | int) -> str:
    """The same parts always give the same id: `<prefix>_` and 26 characters of their SHA-256."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return f"{prefix}_{_encode(int.from_bytes(digest[:16], 'big'))}"
