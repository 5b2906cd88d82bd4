"""Taking in the bytes of a put: order, size, checksum, and a bound on the memory of all puts together."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from mesh import imaging
from mesh.errors import InvalidArgument, ResourceExhausted
from mesh.imaging import ImageInfo
from services.storage.assets import Piece
from services.storage.config import Limits

SHA256 = re.compile(r"[0-9a-f]{64}")
INLINE_BYTES = 128 * 1024  # hashed within a tenth of a millisecond; the way to a thread and back takes longer


@dataclass(frozen=True)
class Received:
    """A whole original: its bytes, their hash, and what the image's header says."""

    data: bytes
    sha256: str
    info: ImageInfo


class Memory:
    """Bytes that unfinished puts hold; refuses instead of waiting, since every waiter would hold bytes itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, size: int) -> None:
        """Counts `size` bytes; ResourceExhausted when there is no room for them."""
        if self.used + size > self._limit:
            raise ResourceExhausted("too many uploads at once", retry_after=1.0)
        self.used += size

    def give_back(self, size: int) -> None:
        """Uncounts `size` bytes."""
        self.used -= size


@dataclass
class Intake:
    """One put on its way in. Use as a context manager, so that its memory is given back."""

    memory: Memory
    limits: Limits
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    announced: str = ""

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.give_back(self.size)

    async def take(self, pieces: AsyncIterator[Piece]) -> Received:
        """Every piece, then the whole, hashed and with its header read."""
        while not self.announced:
            self._add(_present(await self._next(pieces)))
        if await self._next(pieces) is not None:
            raise _broken("a message came after the last chunk")
        return self._sealed() if self.size <= INLINE_BYTES else await asyncio.to_thread(self._sealed)

    async def _next(self, pieces: AsyncIterator[Piece]) -> Piece | None:
        """The next piece, None at the stream's end; neither is waited for longer than `idle`."""
        try:
            async with asyncio.timeout(self.limits.idle):
                return await anext(pieces, None)
        except TimeoutError:
            raise _broken(f"no message came for {self.limits.idle:g} seconds") from None

    def _add(self, piece: Piece) -> None:
        for wrong, why in FAULTS:
            if wrong(self, piece):
                raise _broken(why)
        if self.size + len(piece.data) > self.limits.original:
            text = f"more than {self.limits.original} bytes; an original has at most that many"
            raise InvalidArgument(text, reason="IMAGE_TOO_LARGE")
        self.memory.take(len(piece.data))
        self.size += len(piece.data)
        self.parts.append(piece.data)
        self.announced = piece.sha256 if piece.last else ""

    def _sealed(self) -> Received:
        """In a thread for large originals: hashing and joining take a millisecond a MiB."""
        data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != self.announced:
            raise _broken("the bytes do not have the sha256 of the last chunk")
        return Received(data, sha256, imaging.probe(data))


def _present(piece: Piece | None) -> Piece:
    if piece is None:
        raise _broken("the stream ended before its last chunk")
    return piece


def _broken(why: str) -> InvalidArgument:
    return InvalidArgument(f"the upload is broken: {why}", reason="CHECKSUM_MISMATCH")


FAULTS: tuple[tuple[Callable[[Intake, Piece], bool], str], ...] = (
    (lambda intake, piece: piece.index != 0, "chunk.index must be 0: a put has one image"),
    (lambda intake, piece: piece.offset != intake.size, "chunk.offset must go on where the chunk before ended"),
    (lambda intake, piece: len(piece.data) > intake.limits.chunk, "chunk.data must be at most 1 MiB"),
    (lambda intake, piece: not piece.data and not piece.last, "chunk.data must not be empty"),
    (lambda intake, piece: piece.last and not SHA256.fullmatch(piece.sha256), "the last chunk must carry the sha256"),
)
