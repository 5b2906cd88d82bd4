"""The end of a job in SQL: state, settlement, counters, event and cache in the caller's transaction.

Every way to end goes through here, so that no unfinished job means no open reservation.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mesh import outbox
from mesh.db import now_us, upsert
from mesh.status import to_rpc_status
from services.router import attempt_store, job_events, ledger, ledger_store
from services.router.job_events import JobEnding, Subject
from services.router.leases import Ended, Ending, Lease
from services.router.ledger_store import Account
from services.router.tables import cache_entries, job_inputs, jobs, tenants
from services.router.tables import outbox as outbox_rows

_ASKED = sa.bindparam("v_cost", type_=sa.BigInteger)
_END = (
    sa.update(jobs)
    .where(jobs.c.job_id == sa.bindparam("v_job"))
    .values(
        state=sa.bindparam("v_state", type_=sa.Text),
        version=jobs.c.version + 1,
        end_time=now_us(),
        wake_at=None,
        lease_owner="",
        lease_until=None,
        waiting_for="",
        parked_at=None,
        images=sa.func.coalesce(sa.bindparam("v_images", type_=sa.LargeBinary), jobs.c.images),
        error=sa.bindparam("v_error", type_=sa.LargeBinary),
        error_reason=sa.bindparam("v_reason", type_=sa.Text),
        blocked_by=sa.bindparam("v_blocked_by", type_=sa.Text),
        cache_hit=sa.bindparam("v_cache_hit", type_=sa.Boolean),
        cost_micros=sa.case((jobs.c.reserved_micros < _ASKED, jobs.c.reserved_micros), else_=_ASKED),
        cancel_requested=sa.or_(jobs.c.cancel_requested, sa.bindparam("v_canceled", type_=sa.Boolean)),
    )
    .returning(
        jobs.c.tenant,
        jobs.c.key_id,
        jobs.c.user,
        jobs.c.model,
        jobs.c.version,
        jobs.c.reserved_micros,
        jobs.c.cost_micros,
        jobs.c.images,
        jobs.c.has_inputs,
        jobs.c.poked,
        jobs.c.create_time,
        jobs.c.end_time,
        jobs.c.traceparent,
        jobs.c.tracestate,
    )
)
_END_LEASED = _END.where(jobs.c.epoch == sa.bindparam("v_epoch"), jobs.c.state == "RUNNING")
_END_QUEUED = _END.where(jobs.c.state == "QUEUED")
_FEWER = (
    sa.update(tenants).where(tenants.c.tenant == sa.bindparam("v_tenant")).values(unfinished=tenants.c.unfinished - 1)
)
_FORGET_INPUTS = sa.delete(job_inputs).where(job_inputs.c.job_id == sa.bindparam("v_job"))


def end_leased(connection: sa.Connection, lease: Lease, ending: Ending) -> Ended | None:
    """Ends the job of a lease, and what earlier runs left under way; None when the lease is lost or the job ended."""
    return _end(connection, _END_LEASED, {"v_job": lease.job_id, "v_epoch": lease.epoch}, ending)


def end_queued(connection: sa.Connection, job_id: str, ending: Ending) -> Ended | None:
    """Ends a job that no worker has taken yet; None when it is not QUEUED."""
    return _end(connection, _END_QUEUED, {"v_job": job_id}, ending)


def _end(connection: sa.Connection, statement: sa.Executable, which: dict[str, Any], ending: Ending) -> Ended | None:
    error = b"" if ending.failure is None else to_rpc_status(ending.failure).SerializeToString()
    row = connection.execute(statement, which | _values(ending, error)).one_or_none()
    if row is None:
        return None
    job_id: str = which["v_job"]
    # Tenant before budget, as where jobs are made: one order of locks everywhere.
    connection.execute(_FEWER, {"v_tenant": row.tenant})
    _settle(connection, job_id, row, ending)
    if row.has_inputs:
        connection.execute(_FORGET_INPUTS, {"v_job": job_id})
    if ending.cache_key and ending.state == "SUCCEEDED":
        _remember(connection, job_id, row, ending.cache_key)
    subject = Subject(row.tenant, job_id, row.version, row.end_time, row.traceparent, row.tracestate)
    outbox.append(connection, outbox_rows, job_events.ended(subject, _facts(row, ending, error)))
    if _may_leave_orders(which.get("v_epoch", 0), row, ending):
        attempt_store.give_up_all(connection, job_id)
    return Ended(job_id, row.tenant, row.version, row.cost_micros)


def _may_leave_orders(epoch: int, row: Any, ending: Ending) -> bool:
    """Whether to look for orders under way: not after a first run that went well and that no call back spoke into."""
    return epoch > 1 or (epoch == 1 and (row.poked or ending.state != "SUCCEEDED"))


def _values(ending: Ending, error: bytes) -> dict[str, Any]:
    return {
        "v_state": ending.state,
        "v_images": ending.images,
        "v_error": error,
        "v_reason": "" if ending.failure is None else ending.failure.reason,
        "v_blocked_by": ending.blocked_by,
        "v_cache_hit": ending.cache_hit,
        "v_cost": ending.cost_micros if ending.state == "SUCCEEDED" else 0,
        "v_canceled": ending.state == "CANCELED",
    }


def _settle(connection: sa.Connection, job_id: str, row: Any, ending: Ending) -> None:
    account = Account(row.tenant, row.key_id, row.user, job_id, ending.model or row.model, ending.provider)
    pictures = ending.image_count if ending.state == "SUCCEEDED" else None
    settlement = ledger.settle(row.reserved_micros, row.cost_micros)
    ledger_store.close(connection, account, settlement, (row.end_time, pictures))


def _remember(connection: sa.Connection, job_id: str, row: Any, cache_key: str) -> None:
    values = {
        "cache_key": cache_key,
        "tenant": row.tenant,
        "job_id": job_id,
        "images": row.images,
        "create_time": row.end_time,
    }
    insert = upsert(connection, cache_entries)
    newest = {name: insert.excluded[name] for name in ("job_id", "images", "create_time")}
    connection.execute(insert.on_conflict_do_update(index_elements=["cache_key"], set_=newest), values)


def _facts(row: Any, ending: Ending, error: bytes) -> JobEnding:
    return JobEnding(
        state=ending.state,
        create_time=row.create_time,
        model=ending.model or row.model,
        provider=ending.provider,
        cost_micros=row.cost_micros,
        cache_hit=ending.cache_hit,
        images=row.images,
        error=error,
        blocked_by=ending.blocked_by,
        verdict_id=ending.verdict_id,
    )
