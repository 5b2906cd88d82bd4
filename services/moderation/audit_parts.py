"""The audit's parts of one moderation process, put together."""

from __future__ import annotations

from collections.abc import Callable

from mesh.db import Database
from mesh.events import Bus
from mesh.process import Background
from services.moderation.anchors import Anchor, AnchorName, EventAnchor, ObjectAnchor, TableAnchor
from services.moderation.audit_service import AuditParts, AuditService
from services.moderation.audit_store import AuditReader
from services.moderation.checkpointing import Checkpointing
from services.moderation.checkpoints import CheckpointStore
from services.moderation.erasure import Erasure
from services.moderation.retention import Retention, RetentionSweeper
from services.moderation.verification import Verification
from services.moderation.wire_events import DECIDED


class Audit:
    """Checkpoints every minute, sweeps every hour, and serves. `start` and `stop` may each be called once, in order."""

    def __init__(
        self, database: Database, bus: Bus, store: CheckpointStore | None, retention: Callable[[], Retention]
    ) -> None:
        reader = AuditReader(database)
        self.checkpointing = Checkpointing(database, store)
        self.sweeper = RetentionSweeper(database, store, retention)
        self.erasure = Erasure(database, lambda job_id: bus.signal(DECIDED + job_id))
        self.verification = Verification(reader, lambda: _anchors(reader, bus, store))
        self.service = AuditService(AuditParts(reader, self.verification, self.erasure))
        self._tasks = (
            Background("audit-checkpoints", self.checkpointing.run),
            Background("audit-retention", self.sweeper.run),
        )

    async def start(self) -> None:
        """Begins to make checkpoints and to sweep."""
        for task in self._tasks:
            task.start()

    async def stop(self) -> None:
        """Ends both; what was appended since the last checkpoint gets one at the next start."""
        for task in self._tasks:
            await task.stop()


def _anchors(reader: AuditReader, bus: Bus, store: CheckpointStore | None) -> dict[AnchorName, Anchor | None]:
    return {
        AnchorName.TABLE: TableAnchor(reader),
        AnchorName.EVENT: EventAnchor(bus),
        AnchorName.OBJECT: None if store is None else ObjectAnchor(store),
    }
