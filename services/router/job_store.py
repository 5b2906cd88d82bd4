"""Jobs in SQL as callers see them: created in one transaction, read, listed, canceled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from mesh.db import Database, now_us
from mesh.errors import FailedPrecondition, NotFound
from services.router import attempt_store, endings, job_insert
from services.router.attempt_store import POKED
from services.router.intake import Intake
from services.router.leases import Attempt, Ending
from services.router.records import Cancellation, Created, JobFilter, JobRecord, NewJob, Repeatable
from services.router.tables import job_inputs, job_labels, job_requests, jobs, tenants

MOST_AT_HAND = 32  # whole jobs that are read in about a millisecond
_RECORD = tuple(jobs.c[name] for name in JobRecord.__slots__)
_BY_ID = sa.select(*_RECORD).where(jobs.c.job_id == sa.bindparam("v_job"))
_BY_IDS = sa.select(*_RECORD).where(jobs.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
_VERSIONS = sa.select(jobs.c.job_id, jobs.c.version, jobs.c.progress_step, jobs.c.progress_steps).where(
    jobs.c.job_id.in_(sa.bindparam("job_ids", expanding=True))
)
_FLAG = (
    sa.update(jobs)
    .where(jobs.c.job_id == sa.bindparam("v_job"), jobs.c.state == "RUNNING", sa.not_(jobs.c.committed))
    .values(
        {
            **POKED,
            jobs.c.version: jobs.c.version + sa.case((jobs.c.cancel_requested, 0), else_=1),
            jobs.c.cancel_requested: sa.true(),
        }
    )
    .returning(jobs.c.version)
)
_BEFORE = (
    sa.select(sa.func.count())
    .where(jobs.c.state == sa.literal_column("'QUEUED'"), jobs.c.lane == sa.bindparam("v_lane"))
    .where(jobs.c.turn < sa.bindparam("v_turn"))
)

Found = tuple[JobRecord, tuple[Attempt, ...]]


class JobStore:
    """The job table for the API. `queue_limit` bounds a tenant's unfinished jobs."""

    def __init__(self, database: Database, queue_limit: int = 10_000) -> None:
        self._database = database
        self._intake = Intake(database, queue_limit)

    async def create(self, new: NewJob) -> Created:
        """Stores the job with its request id, reservation, inputs and event, or nothing.

        Raises:
            AlreadyExists: REQUEST_ID_REUSED. ResourceExhausted: QUEUE_FULL or BUDGET_EXCEEDED.
        """
        return await self._intake.create(new)

    async def repeated(self, tenant: str, repeatable: Repeatable) -> str | None:
        """The job that an earlier call with this request id made; None when there was none in 24 hours."""
        return await self._database.read(
            lambda connection: job_insert.earlier(connection, tenant, repeatable), brief=True
        )

    async def get(self, tenant: str, job_id: str) -> Found:
        """The job and its attempts; NotFound when it is not this tenant's."""
        found = await self._database.read(lambda connection: _with_attempts(connection, [job_id]), brief=True)
        if not found or found[0][0].tenant != tenant:
            raise _unknown(job_id)
        return found[0]

    async def many(self, job_ids: Sequence[str]) -> list[Found]:
        """Jobs of any tenant with their attempts; unknown ids are left out."""
        return await self._database.read(
            lambda connection: _with_attempts(connection, job_ids), brief=len(job_ids) <= MOST_AT_HAND
        )

    async def versions(self, job_ids: Sequence[str]) -> dict[str, tuple[int, int, int]]:
        """For each id: version, progress step, progress steps."""
        rows = await self._database.read(lambda c: c.execute(_VERSIONS, {"job_ids": list(job_ids)}).all())
        return {row.job_id: (row.version, row.progress_step, row.progress_steps) for row in rows}

    async def list(self, wanted: JobFilter, after: str, limit: int) -> list[JobRecord]:
        """Jobs older than the job id `after` (empty: from the newest), newest first."""
        return await self._database.read(lambda connection: _list(connection, wanted, after, limit))

    async def attempts(self, job_ids: Sequence[str]) -> Mapping[str, tuple[Attempt, ...]]:
        """The attempts of these jobs, by job id."""
        return await self._database.read(lambda connection: attempt_store.of_jobs(connection, job_ids))

    async def position(self, lane: str, turn: int) -> int:
        """How many waiting jobs of the lane come before this turn."""
        values = {"v_lane": lane, "v_turn": turn}
        return await self._database.read(lambda connection: connection.execute(_BEFORE, values).scalar_one())

    async def cancel(self, tenant: str, job_id: str) -> Cancellation:
        """Ends a QUEUED job, flags a RUNNING one; a repeat changes nothing.

        Raises:
            NotFound: JOB_NOT_FOUND. FailedPrecondition: NOT_CANCELABLE, its pictures are being published or it ended.
        """
        return await self._database.write(lambda connection: _cancel(connection, tenant, job_id))

    async def read_inputs(self, job_id: str) -> dict[str, bytes]:
        """The caller's inline bytes that still wait, by their path in the spec."""
        query = sa.select(job_inputs.c.path, job_inputs.c.data).where(job_inputs.c.job_id == job_id)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {row.path: row.data for row in rows}

    async def unfinished(self, tenant: str) -> int:
        """How many jobs of the tenant are QUEUED or RUNNING."""
        query = sa.select(tenants.c.unfinished).where(tenants.c.tenant == tenant)
        return await self._database.read(lambda connection: connection.execute(query).scalar() or 0)

    async def forget_requests(self, limit: int = 1000) -> int:
        """Deletes request ids whose time is over; the number deleted."""
        old = sa.select(job_requests.c.tenant, job_requests.c.request_id).where(job_requests.c.expire_time < now_us())
        gone = sa.delete(job_requests).where(
            sa.tuple_(job_requests.c.tenant, job_requests.c.request_id).in_(old.limit(limit))
        )
        return await self._database.write(lambda connection: connection.execute(gone).rowcount)


def _unknown(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id!r}", reason="JOB_NOT_FOUND")


def _with_attempts(connection: sa.Connection, job_ids: Sequence[str]) -> list[Found]:
    records = [JobRecord(*row) for row in connection.execute(_BY_IDS, {"job_ids": list(job_ids)})]
    started = [record.job_id for record in records if record.start_time is not None]
    attempts = attempt_store.of_jobs(connection, started) if started else {}
    return [(record, attempts.get(record.job_id, ())) for record in records]


def _list(connection: sa.Connection, wanted: JobFilter, after: str, limit: int) -> list[JobRecord]:
    query = sa.select(*_RECORD).where(jobs.c.tenant == wanted.tenant)
    if wanted.states:
        query = query.where(jobs.c.state.in_(wanted.states))
    if wanted.user:
        query = query.where(jobs.c.user == wanted.user)
    if wanted.created_from:
        query = query.where(jobs.c.create_time >= wanted.created_from)
    if wanted.created_until:
        query = query.where(jobs.c.create_time < wanted.created_until)
    if after:
        query = query.where(jobs.c.job_id < after)
    for label, value in wanted.labels.items():
        query = query.where(_labeled(wanted.tenant, label, value))
    rows = connection.execute(query.order_by(jobs.c.job_id.desc()).limit(limit))
    return [JobRecord(*row) for row in rows]


def _labeled(tenant: str, label: str, value: str) -> sa.ColumnElement[bool]:
    table = job_labels.alias()
    return sa.exists().where(
        table.c.tenant == tenant, table.c.label == label, table.c.value == value, table.c.job_id == jobs.c.job_id
    )


def _cancel(connection: sa.Connection, tenant: str, job_id: str) -> Cancellation:
    row = connection.execute(_BY_ID, {"v_job": job_id}).one_or_none()
    if row is None or row.tenant != tenant:
        raise _unknown(job_id)
    if row.state == "CANCELED":
        return Cancellation(ended=False, version=row.version)
    ended = endings.end_queued(connection, job_id, Ending("CANCELED"))
    if ended is not None:
        return Cancellation(ended=True, version=ended.version)
    version = connection.execute(_FLAG, {"v_job": job_id}).scalar()
    if version is None:
        text = f"{job_id} has ended or its pictures are being published; it cannot be canceled any more"
        raise FailedPrecondition(text, reason="NOT_CANCELABLE")
    return Cancellation(ended=False, version=version)
