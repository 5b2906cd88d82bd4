"""The queue: workers claim jobs, keep their leases alive, park and end them. All on the jobs table.

A claim is one UPDATE. It takes jobs whose wake-up or lease end has come first, then waiting jobs in the order of their
turn; a turn is given at submit so that tenants take turns however many jobs each has. Every claim raises the job's
epoch, and every later write names the epoch it was made under.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mesh import outbox
from mesh.db import Database, now_us
from mesh.errors import Internal
from services.router import attempt_store, endings, job_events
from services.router.attempt_store import POKED
from services.router.job_events import Subject
from services.router.leases import (
    DEADLINE_PAUSED_BY,
    Beat,
    ClaimedJob,
    ClaimRequest,
    Ended,
    Ending,
    Lease,
    LeaseLost,
    Parking,
    Pulse,
)
from services.router.tables import job_inputs, jobs, lanes
from services.router.tables import outbox as outbox_rows

_NOW = now_us()
_LEASE_END = _NOW + sa.bindparam("v_lease_us", type_=sa.BigInteger)
_MINE = (jobs.c.job_id == sa.bindparam("v_job"), jobs.c.epoch == sa.bindparam("v_epoch"), jobs.c.state == "RUNNING")

_CLAIMED = tuple(
    jobs.c[name] for name in ClaimedJob.__slots__ if name not in ("lease", "claim_time", "attempts")
)


def _candidates(where: Sequence[sa.ColumnElement[bool]], order: Sequence[sa.ColumnElement[Any]]) -> sa.Select[Any]:
    picked = (
        sa.select(jobs.c.job_id)
        .where(jobs.c.lane == sa.bindparam("v_lane"), *where)
        .order_by(*order)
        .limit(sa.bindparam("v_limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )
    return sa.select(picked.subquery().c.job_id)


# Literal states let the partial indexes serve these.
_RUNNING = jobs.c.state == sa.literal_column("'RUNNING'")
_QUEUED = jobs.c.state == sa.literal_column("'QUEUED'")
_DUE = _candidates([_RUNNING, jobs.c.wake_at <= _NOW], [jobs.c.wake_at])
_WAITING = _candidates([_QUEUED, jobs.c.run_at <= _NOW], [jobs.c.turn])
_PICKED = sa.union_all(_DUE, _WAITING).limit(sa.bindparam("v_limit", type_=sa.Integer)).cte("picked")
_CLAIM = (
    sa.update(jobs)
    .where(jobs.c.job_id.in_(sa.select(_PICKED.c.job_id)))
    .values(
        state="RUNNING",
        version=jobs.c.version + sa.case((jobs.c.state == "QUEUED", 1), else_=0),
        epoch=jobs.c.epoch + 1,
        lease_owner=sa.bindparam("v_owner"),
        lease_until=_LEASE_END,
        wake_at=_LEASE_END,
        taken_from=jobs.c.lease_owner,
        step_losses=jobs.c.step_losses + sa.case((jobs.c.lease_owner != "", 1), else_=0),
        deadline=jobs.c.deadline
        + sa.case((jobs.c.waiting_for.in_(DEADLINE_PAUSED_BY), _NOW - jobs.c.parked_at), else_=0),
        parked_at=sa.case((jobs.c.waiting_for.in_(DEADLINE_PAUSED_BY), _NOW), else_=jobs.c.parked_at),
        poked=False,
        start_time=sa.func.coalesce(jobs.c.start_time, _NOW),
    )
    .returning(*_CLAIMED, jobs.c.job_id, jobs.c.epoch, jobs.c.turn, _NOW.label("claim_time"))
)
_SERVED = (
    sa.update(lanes)
    .where(lanes.c.lane == sa.bindparam("v_lane"), lanes.c.served < sa.bindparam("v_turn"))
    .values(served=sa.bindparam("v_turn"))
)
_BEAT = (
    sa.update(jobs)
    .where(jobs.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
    .where(jobs.c.lease_owner == sa.bindparam("v_owner"), jobs.c.state == "RUNNING")
    .values(lease_until=_LEASE_END, wake_at=_LEASE_END)
    .returning(jobs.c.job_id, jobs.c.epoch, jobs.c.cancel_requested, jobs.c.step, jobs.c.progress_step)
)
_MOVE = (
    sa.update(jobs)
    .where(*_MINE)
    .values(
        step_losses=sa.case((jobs.c.step == sa.bindparam("v_step"), jobs.c.step_losses), else_=0),
        step=sa.bindparam("v_step"),
        progress_step=sa.bindparam("v_done"),
        progress_steps=sa.bindparam("v_steps"),
    )
)
_WAITING_FOR = sa.bindparam("v_waiting_for", type_=sa.Text)
_PARK = (
    sa.update(jobs)
    .where(*_MINE)
    .values(
        lease_owner="",
        lease_until=None,
        version=jobs.c.version + sa.case((jobs.c.waiting_for != _WAITING_FOR, 1), else_=0),
        waiting_for=_WAITING_FOR,
        parked_at=_NOW,
        wake_at=sa.case((sa.or_(jobs.c.poked, jobs.c.cancel_requested), _NOW), else_=_LEASE_END),
        run_traceparent=sa.bindparam("v_run"),
        step_losses=0,
    )
)
_RESUME = (
    sa.update(jobs)
    .where(*_MINE)
    .values(
        version=jobs.c.version + sa.case((jobs.c.waiting_for != "", 1), else_=0), waiting_for="", parked_at=None
    )
)
_RELEASE = (
    sa.update(jobs)
    .where(*_MINE)
    .values(lease_owner="", lease_until=None, wake_at=_NOW, run_traceparent=sa.bindparam("v_run"))
)
_COMMIT = (
    sa.update(jobs)
    .where(*_MINE, sa.or_(jobs.c.committed, sa.not_(jobs.c.cancel_requested)))
    .values(
        committed=True,
        images=sa.case((jobs.c.committed, jobs.c.images), else_=sa.bindparam("v_images", type_=sa.LargeBinary)),
        step="publish",
        step_losses=sa.case((jobs.c.step == "publish", jobs.c.step_losses), else_=0),
    )
)
_HELD = sa.select(jobs.c.lease_until - _NOW).where(*_MINE)
_STORE_SPEC = sa.update(jobs).where(*_MINE).values(spec=sa.bindparam("v_spec"), has_inputs=False)
_DEPTHS = sa.select(jobs.c.lane, sa.func.count()).where(_QUEUED).group_by(jobs.c.lane)
_NEXT_WAKE = sa.select(sa.func.min(jobs.c.wake_at) - _NOW).where(_RUNNING, jobs.c.lane == sa.bindparam("v_lane"))


class QueueStore:
    """The queue as workers see it. Fenced writes raise LeaseLost when another worker owns the job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, request: ClaimRequest) -> list[ClaimedJob]:
        """Leases up to `limit` runnable jobs of the lane. Jobs lost too often in one step end here and are left out."""
        return await self._database.write(lambda connection: _claim(connection, request))

    async def heartbeat(self, owner: str, beats: Sequence[Beat], lease_s: float) -> Pulse:
        """Extends the leases of `owner` in one statement and tells which jobs to cancel and which are lost."""
        return await self._database.write(lambda connection: _heartbeat(connection, owner, beats, lease_s))

    async def park(self, lease: Lease, parking: Parking) -> None:
        """Gives the lease up until `wake_in_s` has passed; at once when a fact came meanwhile."""
        values = {
            "v_waiting_for": parking.waiting_for,
            "v_lease_us": _us(parking.wake_in_s),
            "v_run": parking.run_traceparent,
        }
        await self._fenced(_PARK, lease, values)

    async def resume(self, lease: Lease) -> None:
        """Says that the cause of waiting is gone and the job goes on."""
        await self._fenced(_RESUME, lease, {})

    async def release(self, lease: Lease, run_traceparent: str = "") -> None:
        """Hands the job back, claimable at once; no loss is counted."""
        await self._fenced(_RELEASE, lease, {"v_run": run_traceparent})

    async def store_inputs(self, lease: Lease, spec: bytes) -> None:
        """Replaces the spec by one that names assets, and removes the bytes that waited."""

        def work(connection: sa.Connection) -> None:
            _write(connection, _STORE_SPEC, lease, {"v_spec": spec})
            connection.execute(sa.delete(job_inputs).where(job_inputs.c.job_id == lease.job_id))

        await self._database.write(work)

    async def commit_images(self, lease: Lease, images: bytes) -> bool:
        """The point of no return: stores what will be published unless a cancel came first, which answers False.

        A repeat keeps the first pictures and answers True.
        """
        return await self._database.write(lambda connection: _commit(connection, lease, images))

    async def finish(self, lease: Lease, ending: Ending) -> Ended:
        """Ends the job: state, settlement, counters, event and cache in one transaction."""

        def work(connection: sa.Connection) -> Ended:
            ended = endings.end_leased(connection, lease, ending)
            if ended is None:
                raise _lost(lease)
            return ended

        return await self._database.write(work)

    async def check(self, lease: Lease, margin_s: float) -> bool:
        """Whether the lease is still ours and lasts at least `margin_s` more."""
        values = _fence(lease)
        left = await self._database.read(lambda connection: connection.execute(_HELD, values).scalar())
        return left is not None and left >= _us(margin_s)

    async def poke(self, job_id: str) -> None:
        """A fact about the job was stored elsewhere: it looks now if parked, else before it parks."""
        statement = sa.update(jobs).where(jobs.c.job_id == job_id).values(POKED)
        await self._database.write(lambda connection: connection.execute(statement) and None)

    async def depths(self) -> Mapping[str, int]:
        """Waiting jobs per lane."""
        rows = await self._database.read(lambda connection: connection.execute(_DEPTHS).all())
        return {lane: count for lane, count in rows}

    async def next_wake(self, lane: str) -> float | None:
        """Seconds until the next parked job or lease end of the lane is due; None when there is none."""
        left = await self._database.read(
            lambda connection: connection.execute(_NEXT_WAKE, {"v_lane": lane}).scalar()
        )
        return None if left is None else max(0.0, left / 1e6)

    async def _fenced(self, statement: sa.Update, lease: Lease, values: Mapping[str, Any]) -> None:
        await self._database.write(lambda connection: _write(connection, statement, lease, values))


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _fence(lease: Lease) -> dict[str, Any]:
    return {"v_job": lease.job_id, "v_epoch": lease.epoch}


def _lost(lease: Lease) -> LeaseLost:
    return LeaseLost(f"{lease.job_id} is no longer held under epoch {lease.epoch}")


def _write(connection: sa.Connection, statement: sa.Update, lease: Lease, values: Mapping[str, Any]) -> None:
    if connection.execute(statement, {**values, **_fence(lease)}).rowcount == 0:
        raise _lost(lease)


def _claim(connection: sa.Connection, request: ClaimRequest) -> list[ClaimedJob]:
    values = {
        "v_lane": request.lane,
        "v_limit": request.limit,
        "v_owner": request.owner,
        "v_lease_us": _us(request.lease_s),
    }
    rows = connection.execute(_CLAIM, values).all()
    if not rows:
        return []
    connection.execute(_SERVED, {"v_lane": request.lane, "v_turn": max(row.turn for row in rows)})
    again = [row.job_id for row in rows if row.epoch > 1]
    if again:
        attempt_store.give_up_lost(connection, again)
    attempts = attempt_store.of_jobs(connection, again) if again else {}
    claimed = []
    for row in sorted(rows, key=lambda row: row.turn):
        job = _claimed_job(row, request.owner, attempts.get(row.job_id, ()))
        if job.step_losses >= request.max_losses:
            _end_lost(connection, job)
        else:
            _tell_started(connection, job)
            claimed.append(job)
    return claimed


def _claimed_job(row: Any, owner: str, attempts: tuple[attempt_store.Attempt, ...]) -> ClaimedJob:
    values = {name: value for name, value in row._mapping.items() if name not in ("job_id", "epoch", "turn")}
    return ClaimedJob(lease=Lease(row.job_id, row.epoch, owner), attempts=attempts, **values)


def _end_lost(connection: sa.Connection, job: ClaimedJob) -> None:
    text = f"the job's worker was lost {job.step_losses} times in the step {job.step or 'begin'!r}"
    endings.end_leased(connection, job.lease, Ending("FAILED", failure=Internal(text, reason="WORKER_LOST")))


def _tell_started(connection: sa.Connection, job: ClaimedJob) -> None:
    if job.lease.epoch == 1:
        subject = Subject(
            job.tenant, job.lease.job_id, job.version, job.start_time, job.traceparent, job.tracestate
        )
        outbox.append(connection, outbox_rows, job_events.started(subject))


def _heartbeat(connection: sa.Connection, owner: str, beats: Sequence[Beat], lease_s: float) -> Pulse:
    ids = [beat.lease.job_id for beat in beats]
    if not ids:
        return Pulse(frozenset(), frozenset())
    values = {"job_ids": ids, "v_owner": owner, "v_lease_us": _us(lease_s)}
    held = {(row.job_id, row.epoch): row for row in connection.execute(_BEAT, values)}
    mine = [(beat, held[key]) for beat in beats if (key := (beat.lease.job_id, beat.lease.epoch)) in held]
    moves = [
        {"v_step": beat.step, "v_done": beat.progress[0], "v_steps": beat.progress[1], **_fence(beat.lease)}
        for beat, row in mine
        if (beat.step, beat.progress[0]) != (row.step, row.progress_step)
    ]
    if moves:
        connection.execute(_MOVE, moves)
    lost = frozenset(ids) - {beat.lease.job_id for beat, _ in mine}
    return Pulse(frozenset(row.job_id for _, row in mine if row.cancel_requested), lost)


def _commit(connection: sa.Connection, lease: Lease, images: bytes) -> bool:
    if connection.execute(_COMMIT, {"v_images": images, **_fence(lease)}).rowcount:
        return True
    if connection.execute(_HELD, _fence(lease)).first() is None:
        raise _lost(lease)
    return False
