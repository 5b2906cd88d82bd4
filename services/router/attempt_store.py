"""Attempts in SQL: a row is written before the provider is called, and what is known of the call is kept in it.

An attempt that may have reached a provider and whose outcome is not stored is UNKNOWN: it is held against the budget
and never sent to that provider again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.rpc import status_pb2
from imagemesh.router.v1 import job_pb2

from mesh import outbox
from mesh.db import Database, now_us
from mesh.errors import MeshError
from mesh.status import to_rpc_status
from services.router import job_events, ledger_store, volumes
from services.router.job_events import Subject
from services.router.leases import Attempt, Lease, LeaseLost
from services.router.ledger_store import Account
from services.router.money import Money
from services.router.tables import attempts, jobs
from services.router.tables import outbox as outbox_rows
from services.router.wire import money_to_proto, time_to_proto

_COLUMNS = tuple(attempts.c[name] for name in Attempt.__slots__)
_OF_JOBS = (
    sa.select(*_COLUMNS)
    .where(attempts.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
    .order_by(attempts.c.job_id, attempts.c.ordinal)
)
_FACTS = (
    jobs.c[name] for name in ("job_id", "tenant", "key_id", "user", "epoch", "version", "traceparent", "tracestate")
)
_JOB = sa.select(*_FACTS).where(jobs.c.job_id == sa.bindparam("v_job"))
_JOB_HELD = _JOB.where(jobs.c.epoch == sa.bindparam("v_epoch"), jobs.c.state == "RUNNING").with_for_update()
_NEXT_ORDINAL = sa.select(sa.func.coalesce(sa.func.max(attempts.c.ordinal), 0) + 1).where(
    attempts.c.job_id == sa.bindparam("v_job")
)
_ADD = sa.insert(attempts).values(start_time=now_us())
_IDENTIFY = (
    sa.update(attempts)
    .where(attempts.c.attempt_id == sa.bindparam("v_attempt"))
    .values(
        provider_request_id=sa.bindparam("v_request"),
        account=sa.func.coalesce(sa.func.nullif(sa.bindparam("v_account", type_=sa.Text), ""), attempts.c.account),
    )
)
_END = (
    sa.update(attempts)
    .where(attempts.c.attempt_id == sa.bindparam("v_attempt"), attempts.c.state == sa.bindparam("v_from"))
    .values(
        state=sa.bindparam("v_state"),
        images=sa.bindparam("v_images"),
        error=sa.bindparam("v_error"),
        error_reason=sa.bindparam("v_reason"),
        cost_micros=sa.bindparam("v_cost"),
        provider_request_id=sa.func.coalesce(
            sa.func.nullif(sa.bindparam("v_request", type_=sa.Text), ""), attempts.c.provider_request_id
        ),
        model_version=sa.func.coalesce(
            sa.func.nullif(sa.bindparam("v_version", type_=sa.Text), ""), attempts.c.model_version
        ),
        end_time=now_us(),
    )
    .returning(*_COLUMNS)
)
_UNDER_WAY = sa.select(*_COLUMNS).where(
    attempts.c.job_id.in_(sa.bindparam("job_ids", expanding=True)), attempts.c.state == "RUNNING"
)
_LOST = _UNDER_WAY.where(attempts.c.provider_request_id == "", ~attempts.c.replay_safe)


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An order about to be placed. indices: the pictures it owes; worst_micros: its cost if everything goes wrong.

    dropped: fields of the spec that it leaves out. account: the provider's account in the catalog.
    provider_request_id: the provider's id of the request, where that is known before it is sent.
    """

    attempt_id: str
    provider: str
    model: str
    model_version: str
    replay_safe: bool
    indices: tuple[int, ...]
    worst_micros: int
    dropped: tuple[str, ...] = ()
    account: str = ""
    provider_request_id: str = ""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an order ended. state: SUCCEEDED FAILED UNKNOWN CANCELED; images: serialised `Job` with only `images`.

    provider_request_id, model_version: written when not empty, for providers that tell them with their answer only.
    """

    state: str
    images: bytes = b""
    failure: MeshError | None = None
    cost_micros: int = 0
    provider_request_id: str = ""
    model_version: str = ""


class AttemptStore:
    """What the pipeline writes and reads about attempts. Fenced writes raise LeaseLost."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, lease: Lease, attempt: NewAttempt) -> int:
        """Stores the order before it is placed; returns its number within the job, from 1."""
        return await self._database.write(lambda connection: _begin(connection, lease, attempt), brief=True)

    async def identify(self, lease: Lease, attempt_id: str, provider_request_id: str, account: str = "") -> None:
        """Stores the provider's own id of the request, and its account, so that another worker can take it up."""
        values = {"v_attempt": attempt_id, "v_request": provider_request_id, "v_account": account}
        await self._database.write(lambda connection: _identify(connection, lease, values), brief=True)

    async def finish(self, lease: Lease, attempt_id: str, end: AttemptEnd) -> bool:
        """Stores the outcome, unless it has one; UNKNOWN also holds its worst cost against the budget."""
        return await self._database.write(lambda connection: _finish(connection, lease, attempt_id, end), brief=True)

    async def list(self, job_id: str) -> tuple[Attempt, ...]:
        """The job's attempts in the order of their start."""
        found = await self._database.read(lambda connection: of_jobs(connection, [job_id]), brief=True)
        return found.get(job_id, ())

    async def bought_before(self, attempt_id: str) -> int:
        """Pictures that the attempt's account has bought of its model this month; see `volumes`."""
        return await self._database.read(lambda connection: volumes.bought_before(connection, attempt_id))


def of_jobs(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, tuple[Attempt, ...]]:
    """The attempts of several jobs, by job id."""
    found: dict[str, list[Attempt]] = {}
    for row in connection.execute(_OF_JOBS, {"job_ids": list(job_ids)}):
        attempt = _attempt(row)
        found.setdefault(attempt.job_id, []).append(attempt)
    return {job_id: tuple(mine) for job_id, mine in found.items()}


def give_up_lost(connection: sa.Connection, job_ids: Sequence[str]) -> None:
    """Turns into UNKNOWN what earlier runs of these jobs left under way and nobody can ask about or safely repeat."""
    _give_up(connection, _LOST, job_ids)


def give_up_all(connection: sa.Connection, job_id: str) -> None:
    """Ends whatever is under way for a job that nobody will work on again: UNKNOWN, FAILED where a repeat is free."""
    _give_up(connection, _UNDER_WAY, [job_id])


def _give_up(connection: sa.Connection, which: sa.Select[Any], job_ids: Sequence[str]) -> None:
    for row in connection.execute(which, {"job_ids": list(job_ids)}).all():
        job = connection.execute(_JOB, {"v_job": row.job_id}).one()
        lost = MeshError("the worker was lost while the provider drew", reason="ATTEMPT_OUTCOME_UNKNOWN")
        state = "FAILED" if row.replay_safe else "UNKNOWN"
        _end(connection, job, row.attempt_id, AttemptEnd(state, failure=lost))


def resolve(connection: sa.Connection, job_id: str, attempt_id: str, end: AttemptEnd) -> None:
    """A late fact about an UNKNOWN attempt of a job that has ended; ends its hold."""
    _end(connection, connection.execute(_JOB, {"v_job": job_id}).one(), attempt_id, end, before="UNKNOWN")


def message(attempt: Attempt) -> job_pb2.Attempt:
    """The attempt as callers see it."""
    return job_pb2.Attempt(
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        model=attempt.model,
        model_version=attempt.model_version,
        provider_request_id=attempt.provider_request_id,
        state=job_pb2.AttemptState.Value(f"ATTEMPT_STATE_{attempt.state}"),
        error=status_pb2.Status.FromString(attempt.error) if attempt.error else None,
        cost=money_to_proto(Money(attempt.cost_micros)),
        indices=attempt.indices,
        start_time=time_to_proto(attempt.start_time),
        end_time=time_to_proto(attempt.end_time),
        dropped=attempt.dropped,
    )


def _attempt(row: Any) -> Attempt:
    values = dict(row._mapping)
    values["indices"] = tuple(int(index) for index in values["indices"].split(",") if index)
    values["dropped"] = tuple(filter(None, values["dropped"].split(",")))
    return Attempt(**values)


def _held_job(connection: sa.Connection, lease: Lease) -> Any:
    job = connection.execute(_JOB_HELD, {"v_job": lease.job_id, "v_epoch": lease.epoch}).one_or_none()
    if job is None:
        raise LeaseLost(f"{lease.job_id} is no longer held under epoch {lease.epoch}")
    return job


def _begin(connection: sa.Connection, lease: Lease, attempt: NewAttempt) -> int:
    job = _held_job(connection, lease)
    ordinal: int = connection.execute(_NEXT_ORDINAL, {"v_job": lease.job_id}).scalar_one()
    values = {
        "attempt_id": attempt.attempt_id,
        "job_id": lease.job_id,
        "tenant": job.tenant,
        "ordinal": ordinal,
        "provider": attempt.provider,
        "model": attempt.model,
        "model_version": attempt.model_version,
        "state": "RUNNING",
        "replay_safe": attempt.replay_safe,
        "indices": ",".join(map(str, attempt.indices)),
        "dropped": ",".join(attempt.dropped),
        "account": attempt.account,
        "provider_request_id": attempt.provider_request_id,
        "images": b"",
        "error": b"",
        "worst_micros": attempt.worst_micros,
        "epoch": lease.epoch,
    }
    connection.execute(_ADD, values)
    return ordinal


def _identify(connection: sa.Connection, lease: Lease, values: dict[str, str]) -> None:
    _held_job(connection, lease)
    connection.execute(_IDENTIFY, values)


def _finish(connection: sa.Connection, lease: Lease, attempt_id: str, end: AttemptEnd) -> bool:
    return _end(connection, _held_job(connection, lease), attempt_id, end)


def _end(connection: sa.Connection, job: Any, attempt_id: str, end: AttemptEnd, before: str = "RUNNING") -> bool:
    error = b"" if end.failure is None else to_rpc_status(end.failure).SerializeToString()
    values = {
        "v_attempt": attempt_id,
        "v_from": before,
        "v_state": end.state,
        "v_images": end.images,
        "v_error": error,
        "v_reason": "" if end.failure is None else end.failure.reason,
        "v_cost": end.cost_micros,
        "v_request": end.provider_request_id,
        "v_version": end.model_version,
    }
    row = connection.execute(_END, values).one_or_none()
    if row is None:
        return False
    attempt = _attempt(row)
    ended = attempt.end_time or 0
    if end.state == "UNKNOWN":
        account = Account(job.tenant, job.key_id, job.user, job.job_id, attempt.model, attempt.provider)
        ledger_store.hold(connection, account, attempt_id, attempt.worst_micros, ended)
    elif end.state != "SUCCEEDED" or attempt.epoch != job.epoch:  # it may have been unknown, and was taken up again
        ledger_store.release_hold(connection, attempt_id, ended)
    subject = Subject(job.tenant, job.job_id, job.version, ended, job.traceparent, job.tracestate)
    outbox.append(connection, outbox_rows, job_events.attempt_finished(subject, message(attempt)))
    return True


POKED: dict[Any, Any] = {
    jobs.c.poked: sa.true(),
    jobs.c.wake_at: sa.case(
        (sa.and_(jobs.c.state == "RUNNING", jobs.c.lease_owner == ""), now_us()), else_=jobs.c.wake_at
    ),
}
"""What a writer without the lease sets so that the job looks at a new fact: now if parked, else before it parks."""
