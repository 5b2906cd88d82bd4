"""The port to whatever keeps copies of the chain's checkpoints outside the database.

CheckpointStoreError        is a MeshError of code UNAVAILABLE: the store does not answer or refused; try again
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Protocol

from mesh.errors import Unavailable

NAME = re.compile(r"(\d{20})\.(\d{1,20})\.([0-9a-f]{64})\.json")
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
    """Checkpoints by name. The name says all that a checkpoint says, so a list is enough to compare every one of them,
    and two that contradict each other lie side by side: nothing is ever overwritten.

    Every method raises CheckpointStoreError when the store does not answer.
    """

    async def put(self, checkpoint: Checkpoint) -> None:
        """Stores it; when it returns, it outlives a power failure. A repeat changes nothing."""

    async def after(self, previous: Checkpoint | None) -> list[Checkpoint]:
        """The next 1,000 at most in the order of their names, which is that of their sequences; None begins."""

    async def delete(self, checkpoint: Checkpoint) -> None:
        """Removes it; fine when there is none."""

    async def close(self) -> None:
        """Ends what is running; may be called twice."""


def name_of(checkpoint: Checkpoint) -> str:
    """The name of the checkpoint's file or object."""
    return f"{checkpoint.sequence:020d}.{checkpoint.create_us}.{checkpoint.chain}.json"


def named(name: str) -> Checkpoint | None:
    """The checkpoint that a name says; None for a name of something else."""
    found = NAME.fullmatch(name)
    return Checkpoint(int(found[1]), found[3], int(found[2])) if found else None


def document(checkpoint: Checkpoint) -> bytes:
    """The same for people, as one line of JSON."""
    return json.dumps(asdict(checkpoint)).encode() + b"\n"
