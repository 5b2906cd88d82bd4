"""The one transaction that makes jobs: request ids, places in the queue, reservations, jobs, inputs, events.

Each statement serves all jobs that are stored together; the rows of one job are never apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mesh.db import now_us
from mesh.errors import AlreadyExists, ResourceExhausted
from mesh.events import Event
from services.router import job_events, ledger_store
from services.router.job_events import Subject
from services.router.ledger_store import Account
from services.router.records import Created, NewJob, Repeatable
from services.router.tables import job_inputs, job_labels, job_requests, jobs, lanes, outbox, tenants

REQUEST_ID_US = 24 * 3600 * 1_000_000
QUEUE_FULL_RETRY_S = 5.0

_REQUEST = sa.select(
    job_requests.c.job_id, job_requests.c.body_hash, (job_requests.c.expire_time < now_us()).label("expired")
).where(job_requests.c.tenant == sa.bindparam("v_tenant"), job_requests.c.request_id == sa.bindparam("v_request"))
_REUSE = (
    sa.update(job_requests)
    .where(job_requests.c.tenant == sa.bindparam("v_tenant"), job_requests.c.request_id == sa.bindparam("v_request"))
    .values(body_hash=sa.bindparam("v_hash"), job_id=sa.bindparam("v_job"), expire_time=now_us() + REQUEST_ID_US)
)
_INSERT_REQUEST = {
    name: dialect.insert(job_requests)
    .values(
        tenant=sa.bindparam("v_tenant"),
        request_id=sa.bindparam("v_request"),
        body_hash=sa.bindparam("v_hash"),
        job_id=sa.bindparam("v_job"),
        expire_time=now_us() + REQUEST_ID_US,
    )
    .on_conflict_do_nothing()
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
_INSERT_NEW_REQUESTS = sa.insert(job_requests).values(expire_time=now_us() + REQUEST_ID_US)
_INSERT_JOBS = sa.insert(jobs)
_INSERT_EVENTS = sa.insert(outbox)  # its columns are the fields of an Event
_INSERT_LABELS = sa.insert(job_labels)
_INSERT_INPUTS = sa.insert(job_inputs)


def _enter_statement(insert: Any, turn: sa.Column[int]) -> sa.Executable:
    """Counts more unfinished jobs and gives them the tenant's next turns, unless it were too many; tells the last turn.

    The next turn is one after the tenant's last, but never before what the lane has served by now: a tenant that was
    away gets no credit for it, and a tenant with a thousand waiting jobs goes once each round.
    """
    of_lane = sa.select(lanes.c.served).where(lanes.c.lane == sa.bindparam("v_lane"))
    served = sa.func.coalesce(of_lane.scalar_subquery(), 0)
    count = sa.bindparam("v_count", type_=sa.BigInteger)
    first = insert.values({"tenant": sa.bindparam("v_tenant"), "unfinished": count, turn.name: served + count})
    return first.on_conflict_do_update(  # type: ignore[no-any-return]
        index_elements=["tenant"],
        set_={
            "unfinished": tenants.c.unfinished + count,
            turn.name: sa.case((turn < served, served), else_=turn) + count,
        },
        where=tenants.c.unfinished + count <= sa.bindparam("v_limit", type_=sa.BigInteger),
    ).returning(turn, now_us())


_ENTER = {
    (name, lane): _enter_statement(dialect.insert(tenants), turn)
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
    for lane, turn in (("INTERACTIVE", tenants.c.interactive_turn), ("BATCH", tenants.c.batch_turn))
}


def insert(connection: sa.Connection, new: NewJob, queue_limit: int) -> Created:
    """Stores one job and everything that belongs to it; a repeated request id stores nothing.

    Raises:
        AlreadyExists: REQUEST_ID_REUSED. ResourceExhausted: QUEUE_FULL or BUDGET_EXCEEDED.
    """
    if new.repeatable is not None:
        first = _claim_request(connection, new, new.repeatable)
        if first is not None:
            return Created(first, 0, repeated=True)
    return _insert_jobs(connection, [new], queue_limit)[0]


def insert_all(connection: sa.Connection, group: Sequence[NewJob], queue_limit: int) -> list[Created]:
    """Stores several jobs. When anything stands against any of them, it raises something and stores none.

    Raises:
        IntegrityError: a request id is taken. ResourceExhausted: QUEUE_FULL or BUDGET_EXCEEDED.
    """
    requests = [
        {
            "tenant": new.identity.tenant,
            "request_id": new.repeatable.request_id,
            "body_hash": new.repeatable.body_hash,
            "job_id": new.job_id,
        }
        for new in group
        if new.repeatable is not None
    ]
    if requests:
        requests.sort(key=lambda row: (row["tenant"], row["request_id"]))  # one order of locks
        connection.execute(_INSERT_NEW_REQUESTS, requests)
    return _insert_jobs(connection, group, queue_limit)


def _insert_jobs(connection: sa.Connection, group: Sequence[NewJob], queue_limit: int) -> list[Created]:
    turns, now = _enter_queue(connection, group, queue_limit)
    ledger_store.reserve(connection, [(_account(new), new.quoted_micros) for new in group], now)
    connection.execute(_INSERT_JOBS, [_row(new, turns[new.job_id], now) for new in group])
    labels = [row for new in group for row in _label_rows(new)]
    if labels:
        connection.execute(_INSERT_LABELS, labels)
    inputs = [row for new in group for row in _input_rows(new)]
    if inputs:
        connection.execute(_INSERT_INPUTS, inputs)
    connection.execute(_INSERT_EVENTS, [vars(_queued(new, now)) for new in group])
    return [Created(new.job_id, now) for new in group]


def earlier(connection: sa.Connection, tenant: str, repeatable: Repeatable) -> str | None:
    """The job made under this request id in the last 24 hours; AlreadyExists when its body was another."""
    values = {"v_tenant": tenant, "v_request": repeatable.request_id}
    row = connection.execute(_REQUEST, values).one_or_none()
    if row is None or row.expired:
        return None
    if row.body_hash != repeatable.body_hash:
        text = f"request id {repeatable.request_id!r} was used within 24 hours for a request with another body"
        raise AlreadyExists(text, reason="REQUEST_ID_REUSED")
    return str(row.job_id)


def _claim_request(connection: sa.Connection, new: NewJob, repeatable: Repeatable) -> str | None:
    """Takes the request id for this job; the earlier job's id when it is taken."""
    values = {
        "v_tenant": new.identity.tenant,
        "v_request": repeatable.request_id,
        "v_hash": repeatable.body_hash,
        "v_job": new.job_id,
    }
    if connection.execute(_INSERT_REQUEST[connection.dialect.name], values).rowcount:
        return None
    first = earlier(connection, new.identity.tenant, repeatable)
    if first is None:
        connection.execute(_REUSE, values)
    return first


def _enter_queue(connection: sa.Connection, group: Sequence[NewJob], queue_limit: int) -> tuple[dict[str, int], int]:
    """The turn of each job by its id, and the database's time."""
    places: dict[tuple[str, str], list[str]] = {}
    for new in group:
        places.setdefault((new.identity.tenant, new.lane), []).append(new.job_id)
    turns: dict[str, int] = {}
    now = 0
    for (tenant, lane), job_ids in sorted(places.items()):
        count = len(job_ids)
        values = {"v_tenant": tenant, "v_lane": lane, "v_limit": queue_limit, "v_count": count}
        row = None
        if count <= queue_limit:
            row = connection.execute(_ENTER[connection.dialect.name, lane], values).one_or_none()
        if row is None:
            text = f"the tenant has {queue_limit} unfinished jobs; wait for some to end"
            raise ResourceExhausted(text, reason="QUEUE_FULL", retry_after=QUEUE_FULL_RETRY_S)
        last, now = row[0], row[1]
        turns.update(zip(job_ids, range(last - count + 1, last + 1), strict=True))
    return turns, now


def _account(new: NewJob) -> Account:
    identity = new.identity
    return Account(identity.tenant, identity.key_id, identity.user, new.job_id, new.model)


def _queued(new: NewJob, now: int) -> Event:
    subject = Subject(new.identity.tenant, new.job_id, 1, now, new.traceparent, new.tracestate)
    return job_events.queued(subject, new.event)


def _label_rows(new: NewJob) -> list[dict[str, str]]:
    tenant, job_id = new.identity.tenant, new.job_id
    return [{"tenant": tenant, "label": k, "value": v, "job_id": job_id} for k, v in new.labels.items()]


def _input_rows(new: NewJob) -> list[dict[str, Any]]:
    return [{"job_id": new.job_id, "path": path, "data": data} for path, data in new.inputs.items()]


def _row(new: NewJob, turn: int, now: int) -> dict[str, Any]:
    return {
        "job_id": new.job_id,
        "tenant": new.identity.tenant,
        "key_id": new.identity.key_id,
        "user": new.identity.user,
        "state": "QUEUED",
        "lane": new.lane,
        "model": new.model,
        "parent_job_id": new.parent_job_id,
        "spec": new.spec,
        "options": new.options,
        "seed_drawn": new.seed_drawn,
        "has_inputs": bool(new.inputs),
        "turn": turn,
        "run_at": now,
        "deadline": now + round(new.deadline_s * 1_000_000),
        "images": b"",
        "error": b"",
        "quoted_micros": new.quoted_micros,
        "reserved_micros": new.quoted_micros,
        "create_time": now,
        "traceparent": new.traceparent,
        "tracestate": new.tracestate,
    }
