"""Perceptual hashes (pHash as the ImageHash library computes it) and the table of blocked pictures.

A hash is 64 bits. A picture is looked up in its eight orientations, so the table keeps one hash a picture. Flat
pictures have hashes of noise; they are told by how many of the 64 bits rest on a real signal, and never compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fftpack
from numpy.typing import NDArray
from PIL import Image

from services.moderation.verdicts import Category

SIDE = 32  # pixels a side of the grey thumbnail that is hashed
BITS = 64
SIGNAL_MINIMUM = 16  # of 63 frequencies; fewer make a hash that many pictures share
SIGNAL_GREY_LEVELS = 0.5  # amplitude from which a frequency counts as signal

Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The hashes of a picture's eight orientations, the picture as it is first; empty when it is too flat."""

    hashes: tuple[int, ...]

    @property
    def comparable(self) -> bool:
        """False for flat pictures."""
        return bool(self.hashes)


@dataclass(frozen=True, slots=True)
class BlockedHash:
    """A picture that must not appear again. `phash` is None where only the exact bytes are known."""

    hash_id: str
    category: Category
    phash: int | None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class HashMatch:
    """A blocked picture that was found again; `distance` in bits, 0 for the same bytes."""

    blocked: BlockedHash
    distance: int


def fingerprint(grey: Grey) -> Fingerprint:
    """The hashes of a square grey thumbnail."""
    small = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    frequencies = _low_frequencies(np.asarray(small))
    if _signal(frequencies) < SIGNAL_MINIMUM:
        return Fingerprint(())
    oriented = np.concatenate([_FLIPS * frequencies, _FLIPS * frequencies.T]).reshape(8, BITS)
    bits = oriented > np.median(oriented, axis=1, keepdims=True)
    return Fingerprint(tuple(np.packbits(bits, axis=1).view(">u8")[:, 0].tolist()))


def _low_frequencies(pixels: Grey) -> NDArray[np.float64]:
    """The library's own transform, so that our hash is its hash to the last bit."""
    whole = scipy.fftpack.dct(scipy.fftpack.dct(pixels, axis=0), axis=1)
    return np.asarray(whole[:8, :8], dtype=np.float64)


_ODD = np.where(np.arange(8) % 2, -1.0, 1.0)
_FLIPS = np.array([np.outer(down, across) for down in (np.ones(8), _ODD) for across in (np.ones(8), _ODD)])
"""A mirrored picture has the same frequencies with every second sign changed; a transposed one has them transposed."""


def _signal(frequencies: NDArray[np.float64]) -> int:
    """How many of the 63 low frequencies have more than noise in them."""
    amplitudes = np.abs(frequencies) / SIDE**2
    amplitudes[0, 0] = 0
    return int((amplitudes >= SIGNAL_GREY_LEVELS).sum())


class HashTable:
    """All blocked pictures at one version of the table; immutable, compared whole in microseconds."""

    def __init__(self, version: int, blocked: Sequence[BlockedHash]) -> None:
        self.version = version
        self._by_sha256 = {entry.sha256: entry for entry in blocked if entry.sha256}
        self._entries = [entry for entry in blocked if entry.phash is not None]
        self._hashes = np.array([entry.phash for entry in self._entries], dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, picture: Fingerprint, sha256: str, distance: int) -> HashMatch | None:
        """The nearest blocked picture within `distance` bits in any orientation, or the one with the same bytes."""
        same = self._by_sha256.get(sha256)
        if same is not None:
            return HashMatch(same, 0)
        if not picture.comparable or not self._entries:
            return None
        ours = np.array(picture.hashes, dtype=np.uint64)
        distances = _ones(ours[:, None] ^ self._hashes[None, :]).min(axis=0)
        nearest = int(distances.argmin())
        found = int(distances[nearest])
        return HashMatch(self._entries[nearest], found) if found <= distance else None


_BYTE_ONES = np.array([byte.bit_count() for byte in range(256)], dtype=np.uint8)


def _ones(numbers: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits are set in each number."""
    octets = np.ascontiguousarray(numbers).view(np.uint8).reshape(*numbers.shape, 8)
    ones: NDArray[np.uint8] = _BYTE_ONES[octets].sum(axis=-1, dtype=np.uint8)
    return ones


EMPTY_TABLE = HashTable(0, ())
