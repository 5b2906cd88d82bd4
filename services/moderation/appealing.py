"""Taking in appeals: stored, put into the queue and on record in one transaction."""

from __future__ import annotations

import sqlalchemy as sa

from mesh.db import Database
from mesh.outbox import append
from mesh.telemetry import current
from services.moderation import appeal_store, wire_events
from services.moderation.appeal_store import Appeal, Appeals
from services.moderation.policy_changes import Who
from services.moderation.review_store import open_review
from services.moderation.tables import OUTBOX


class Appealing:
    """What callers do with verdicts that they object to. appeals: reads them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.appeals = Appeals(database)

    async def make(self, verdict_id: str, statement: str, tenant: str, who: Who) -> Appeal:
        """Stores the tenant's appeal; see AppealVerdict in the contract."""
        return await self._database.write(lambda c: _make(c, (verdict_id, statement), tenant, who))


def _make(connection: sa.Connection, objection: tuple[str, str], tenant: str, who: Who) -> Appeal:
    appeal, verdict = appeal_store.add(connection, *objection, tenant)
    opened = open_review(connection, appeal_store.review_of_appeal(appeal, verdict))
    if opened is not None:
        append(connection, OUTBOX, wire_events.review_requested(opened, current()))
    appeal_store.put_on_record(connection, appeal, verdict, who)
    return appeal
