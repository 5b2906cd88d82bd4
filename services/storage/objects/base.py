"""The port to whatever keeps the bytes.

ObjectStoreError            is a MeshError of code UNAVAILABLE: the store does not answer or refused; try again
└── (ObjectMissing)         is a MeshError of code DATA_LOSS: a row names an object that is not there
"""

from __future__ import annotations

import re
from typing import Protocol

from mesh.errors import DataLoss, Unavailable

KEY = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")


class ObjectStoreError(Unavailable):
    """The store does not answer, or refused the call; nothing is known to be written."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1.0, metadata={"peer": "objects"})


class ObjectMissing(DataLoss):
    """The object does not exist."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object {key} is missing", reason="INTERNAL")


class ObjectStore(Protocol):
    """Named, unchanging sequences of bytes. Keys are relative paths of letters, digits, `-`, `_`, `.` and `/`.

    Every method raises ObjectStoreError when the store does not answer. Methods may run at the same time.
    """

    async def put(self, key: str, data: bytes) -> None:
        """Stores `data`; when it returns, the whole of it outlives a power failure. A repeat overwrites."""

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, fewer at the end; ObjectMissing when there is no such object."""

    async def delete(self, key: str) -> None:
        """Removes the object; fine when there is none."""

    async def ping(self) -> None:
        """Raises ObjectStoreError when the store cannot be used."""

    async def close(self) -> None:
        """Ends what is running; may be called twice."""


def checked(key: str) -> str:
    """The key, if it is one; ValueError otherwise, so that no key ever leaves the store's folder."""
    if not KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key!r}")
    return key
