"""Takes the chain's head out of the database: as an event and as an object, every minute in which it moved.

The row of a checkpoint and its event are one transaction; the object follows and is tried again until it is there, so a
process that is killed in between loses nothing, and several processes may work side by side.
"""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from imagemesh.events.v1 import audit_pb2

from mesh.db import Database, now_us
from mesh.events import Event
from mesh.ids import derived_id
from mesh.outbox import append
from mesh.telemetry import logger
from services.moderation.audit_store import locked_head
from services.moderation.audit_tables import AUDIT_CHECKPOINTS
from services.moderation.checkpoints import Checkpoint, CheckpointStore
from services.moderation.tables import OUTBOX

EVERY_S = 60.0
AT_ONCE = 100  # objects stored in one turn
EVENT_TYPE = "AuditCheckpointed"
NO_TENANT = "_"  # no tenant is called so
SUBJECT = "audit"

log = logger(__name__)
K = AUDIT_CHECKPOINTS.c


class Checkpointing:
    """Makes checkpoints. store: None where none is set up; the event and the table's row are all there is then."""

    def __init__(self, database: Database, store: CheckpointStore | None) -> None:
        self._database = database
        self._store = store

    async def run(self) -> None:
        """Makes them for ever; what fails is tried again a minute later."""
        while True:
            try:
                await self.checkpoint()
            except Exception as error:  # noqa: BLE001 - whatever it is, the chain is kept and the next turn may work
                log.warning("checkpoint waits", error=type(error).__name__)
            await asyncio.sleep(EVERY_S)

    async def checkpoint(self) -> None:
        """One turn: marks the head if it moved, then stores every object that is still to be stored."""
        await self._database.write(mark)
        if self._store is None:
            return
        for checkpoint in await self._database.read(_to_store):
            await self._store.put(checkpoint)
            done = sa.update(AUDIT_CHECKPOINTS).where(K.sequence == checkpoint.sequence).values(stored=1)
            await self._database.write(lambda connection, done=done: connection.execute(done))  # type: ignore[misc]


def mark(connection: sa.Connection) -> None:
    """Adds a checkpoint at the head with its event, if the head moved since the newest one."""
    sequence, chain = locked_head(connection)
    newest = connection.execute(sa.select(sa.func.coalesce(sa.func.max(K.sequence), 0))).scalar_one()
    if sequence <= newest:
        return
    now = int(connection.execute(sa.select(now_us())).scalar_one())
    checkpoint = Checkpoint(sequence, chain, now)
    row = {"sequence": checkpoint.sequence, "chain": checkpoint.chain, "create_us": now, "stored": 0}
    connection.execute(sa.insert(AUDIT_CHECKPOINTS), row)
    append(connection, OUTBOX, event_of(checkpoint))


def event_of(checkpoint: Checkpoint) -> Event:
    """The event that tells of the checkpoint."""
    message = audit_pb2.AuditCheckpointed(sequence=checkpoint.sequence, head=bytes.fromhex(checkpoint.chain))
    message.checkpoint_time.FromMicroseconds(checkpoint.create_us)
    return Event(
        id=derived_id("evt", EVENT_TYPE, checkpoint.sequence, checkpoint.chain),
        type=EVENT_TYPE,
        tenant=NO_TENANT,
        subject_id=SUBJECT,
        data=message.SerializeToString(),
        version=checkpoint.sequence,
        time_us=checkpoint.create_us,
    )


def told_by(data: bytes) -> Checkpoint:
    """The checkpoint in an event's data; DecodeError when it is none."""
    message = audit_pb2.AuditCheckpointed.FromString(data)
    return Checkpoint(message.sequence, message.head.hex(), message.checkpoint_time.ToMicroseconds())


def _to_store(connection: sa.Connection) -> list[Checkpoint]:
    query = sa.select(K.sequence, K.chain, K.create_us).where(K.stored == 0).order_by(K.sequence).limit(AT_ONCE)
    return [Checkpoint(int(row[0]), row[1], int(row[2])) for row in connection.execute(query)]
