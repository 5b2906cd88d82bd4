"""The copies of the chain's checkpoints, as one port: the table, the event stream, the store of checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
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
    """Checkpoints of one place."""

    name: AnchorName

    def pages(self) -> AsyncIterator[list[Checkpoint]]:
        """All of them, with ascending sequences. Raises Unavailable when the place does not answer."""
        ...


class TableAnchor:
    """The table beside the records: it finds mistakes, and a forger who knows less than all of this."""

    name = AnchorName.TABLE

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader

    async def pages(self) -> AsyncIterator[list[Checkpoint]]:
        """Reads the table; a year of minutes is half a million rows."""
        last = -1
        while page := await self._reader.checkpoints(last, PAGE):
            yield page
            last = page[-1].sequence


class EventAnchor:
    """The newest event of the stream, which keeps a week."""

    name = AnchorName.EVENT

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def pages(self) -> AsyncIterator[list[Checkpoint]]:
        """Asks the stream once; what is no such event counts as none."""
        data = await self._bus.newest(Event("", EVENT_TYPE, NO_TENANT, SUBJECT, b"").subject)
        with suppress(DecodeError):
            yield [] if data is None else [told_by(data)]


class ObjectAnchor:
    """The store of checkpoints."""

    name = AnchorName.OBJECT

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store

    async def pages(self) -> AsyncIterator[list[Checkpoint]]:
        """Lists the store."""
        last = None
        while page := await self._store.after(last):
            yield page
            last = page[-1]
