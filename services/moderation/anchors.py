"""The copies of the chain's checkpoints, as one port: the table, the event stream, the store of checkpoints."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from enum import StrEnum
from typing import Protocol

from google.protobuf.message import DecodeError

from mesh.events import Bus, Event
from services.moderation.audit_store import AuditReader
from services.moderation.checkpointing import EVENT_TYPE, NO_TENANT, SUBJECT, told_by
from services.moderation.checkpoints import Checkpoint, CheckpointStore

PAGE = 1_000


class AnchorName(StrEnum):
    """Where checkpoints are kept; the names of the contract."""

    TABLE = "TABLE"
    EVENT = "EVENT"
    OBJECT = "OBJECT"


class Anchor(Protocol):
    """Checkpoints of one place, ordered. Both methods raise Unavailable when the place does not answer."""

    name: AnchorName

    async def sequences(self, after: int) -> list[int]:
        """All that it holds above `after`, ascending."""

    async def checkpoint(self, sequence: int) -> Checkpoint | None:
        """One of them; None when it cannot be read."""


class TableAnchor:
    """The table beside the records: it finds mistakes, and a forger who knows less than all of this."""

    name = AnchorName.TABLE

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader
        self._known: dict[int, Checkpoint] = {}

    async def sequences(self, after: int) -> list[int]:
        """Reads the table in pages; a year of minutes is half a million rows."""
        while page := await self._reader.checkpoints(after, PAGE):
            self._known.update({found.sequence: found for found in page})
            after = page[-1].sequence
        return sorted(self._known)

    async def checkpoint(self, sequence: int) -> Checkpoint | None:
        """From what was read."""
        return self._known.get(sequence)


class EventAnchor:
    """The newest event of the stream, which keeps a week."""

    name = AnchorName.EVENT

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._newest: Checkpoint | None = None

    async def sequences(self, after: int) -> list[int]:
        """Asks the stream once."""
        data = await self._bus.newest(Event("", EVENT_TYPE, NO_TENANT, SUBJECT, b"").subject)
        try:
            self._newest = None if data is None else told_by(data)
        except DecodeError:
            return []
        return [self._newest.sequence] if self._newest and self._newest.sequence > after else []

    async def checkpoint(self, sequence: int) -> Checkpoint | None:
        """The newest one."""
        return self._newest


class ObjectAnchor:
    """The store of checkpoints."""

    name = AnchorName.OBJECT

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store

    async def sequences(self, after: int) -> list[int]:
        """Lists the store in pages."""
        found: list[int] = []
        while page := await self._store.sequences(found[-1] if found else after):
            found += page
        return found

    async def checkpoint(self, sequence: int) -> Checkpoint | None:
        """Fetches it."""
        return await self._store.read(sequence)


def between(sequences: list[int], first: int, last: int) -> list[int]:
    """Those of the ascending sequences from `first` to `last`, both included."""
    return sequences[bisect_left(sequences, first) : bisect_right(sequences, last)]
