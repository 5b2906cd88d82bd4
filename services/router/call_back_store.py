"""What a vendor's call back changes in SQL. It may come at any time and more than once; a repeat changes nothing."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import sqlalchemy as sa
from google.rpc import status_pb2

from mesh.db import Database
from mesh.status import from_status
from services.router import attempt_store
from services.router.attempt_store import POKED, AttemptEnd
from services.router.leases import UNFINISHED
from services.router.tables import attempts, jobs


class Noted(enum.StrEnum):
    """What became of a call back."""

    UNKNOWN_ATTEMPT = "UNKNOWN_ATTEMPT"
    """We never placed this order there."""
    HEARD = "HEARD"
    """The order is under way; whoever waits for it looks now."""
    TAKEN_UP = "TAKEN_UP"
    """Its outcome was unknown. The vendor's id is stored now, and the job's next run asks the vendor."""
    TOO_LATE = "TOO_LATE"
    """Its outcome was unknown and the job has ended without it: what was held is spent now."""
    NOTHING = "NOTHING"
    """Its outcome was known."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A believed call back: about which attempt at which provider, and the provider's id of the request."""

    provider: str
    attempt_id: str
    provider_request_id: str


class CallBackStore:
    """Writes down what call backs tell."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, fact: Fact) -> Noted:
        """Stores the fact; the job looks at it now if it is parked, else before it parks."""
        return await self._database.write(lambda connection: _note(connection, fact))


def _note(connection: sa.Connection, fact: Fact) -> Noted:
    query = (
        sa.select(
            attempts.c.state,
            attempts.c.provider_request_id,
            attempts.c.error,
            attempts.c.worst_micros,
            jobs.c.job_id,
            jobs.c.state.label("job"),
        )
        .join(jobs, jobs.c.job_id == attempts.c.job_id)
        .where(attempts.c.attempt_id == fact.attempt_id, attempts.c.provider == fact.provider)
        .with_for_update()
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return Noted.UNKNOWN_ATTEMPT
    if row.state not in ("RUNNING", "UNKNOWN"):
        return Noted.NOTHING
    if row.job in UNFINISHED:  # what is held stays held until the vendor has told the outcome
        _change(connection, fact, {"state": "RUNNING", "end_time": None, "error": b"", "error_reason": ""})
        connection.execute(sa.update(jobs).where(jobs.c.job_id == row.job_id).values(POKED))
        return Noted.TAKEN_UP if row.state == "UNKNOWN" else Noted.HEARD
    end = AttemptEnd(
        "FAILED",
        failure=from_status(status_pb2.Status.FromString(row.error)),
        cost_micros=row.worst_micros,
        provider_request_id=row.provider_request_id or fact.provider_request_id,
    )
    attempt_store.resolve(connection, row.job_id, fact.attempt_id, end)
    return Noted.TOO_LATE


def _change(connection: sa.Connection, fact: Fact, values: dict[str, object]) -> None:
    known = sa.func.coalesce(sa.func.nullif(attempts.c.provider_request_id, ""), fact.provider_request_id)
    changed = sa.update(attempts).where(attempts.c.attempt_id == fact.attempt_id)
    connection.execute(changed.values(provider_request_id=known, **values))
