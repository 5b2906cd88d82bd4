"""The port to whatever keeps copies of the chain's checkpoints outside the database.

CheckpointStoreError        is a MeshError of code UNAVAILABLE: the store does not answer or refused; try again
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Protocol

from mesh.errors import Unavailable

DIGITS = 20  # names sort as their sequences do
SUFFIX = ".json"
PAGE = 1_000


class CheckpointStoreError(Unavailable):
    """The store does not answer, or refused the call."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1.0, metadata={"peer": "checkpoints"})


@dataclass(frozen=True)
class Checkpoint:
    """The chain's value after the record `sequence`; lower-case hex. create_us: microseconds since 1970-01-01 UTC."""

    sequence: int
    chain: str
    create_us: int


class CheckpointStore(Protocol):
    """Checkpoints by their sequence. What is there already is never overwritten.

    Every method raises CheckpointStoreError when the store does not answer.
    """

    async def put(self, checkpoint: Checkpoint) -> None:
        """Stores it; when it returns, it outlives a power failure. Does nothing when there is one of that sequence."""

    async def read(self, sequence: int) -> Checkpoint | None:
        """The checkpoint of that sequence; None when there is none, or none that can be read."""

    async def sequences(self, after: int) -> list[int]:
        """Ascending sequences greater than `after`, the first 1,000."""

    async def delete(self, sequence: int) -> None:
        """Removes it; fine when there is none."""

    async def close(self) -> None:
        """Ends what is running; may be called twice."""


def name_of(sequence: int) -> str:
    """The name of the checkpoint's file or object."""
    return f"{sequence:0{DIGITS}d}{SUFFIX}"


def sequence_of(name: str) -> int | None:
    """The sequence in a name; None for a name of something else."""
    stem = name.removesuffix(SUFFIX)
    return int(stem) if name.endswith(SUFFIX) and len(stem) == DIGITS and stem.isdecimal() else None


def encoded(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as one line of JSON."""
    return json.dumps(asdict(checkpoint)).encode() + b"\n"


def decoded(data: bytes) -> Checkpoint | None:
    """The checkpoint in the bytes; None when there is none in them."""
    try:
        found = json.loads(data)
        checkpoint = Checkpoint(int(found["sequence"]), str(found["chain"]), int(found["create_us"]))
    except (ValueError, KeyError, TypeError):
        return None
    return checkpoint
