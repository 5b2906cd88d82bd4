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
from mesh.db import Database
from mesh.errors import Internal
from services.router import attempt_store, endings, job_events, queue_sql
from services.router.attempt_store import POKED
from services.router.job_events import Subject
from services.router.leases import (
    Attempt,
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
from services.router.tables import job_inputs, jobs
from services.router.tables import outbox as outbox_rows

LOST_REST_S = 60.0
"""Seconds that a committed job is left alone after too many lost workers."""


class QueueStore:
    """The queue as workers see it. Fenced writes raise LeaseLost when another worker owns the job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, request: ClaimRequest) -> list[ClaimedJob]:
        """Leases up to `limit` runnable jobs of the lane; those lost too often in a step end or rest instead."""
        return await self._database.write(lambda connection: _claim(connection, request), brief=True)

    async def heartbeat(self, owner: str, beats: Sequence[Beat], lease_s: float) -> Pulse:
        """Extends the leases of `owner` in one statement and tells which jobs to cancel and which are lost."""
        return await self._database.write(lambda connection: _heartbeat(connection, owner, beats, lease_s), brief=True)

    async def park(self, lease: Lease, parking: Parking) -> None:
        """Gives the lease up until `wake_in_s` has passed; at once when a fact came meanwhile."""
        values = {
            "v_waiting_for": parking.waiting_for,
            "v_lease_us": _us(parking.wake_in_s),
            "v_run": parking.run_traceparent,
        }
        await self._fenced(queue_sql.PARK, lease, values)

    async def resume(self, lease: Lease) -> None:
        """Says that the cause of waiting is gone and the job goes on."""
        await self._fenced(queue_sql.RESUME, lease, {})

    async def release(self, lease: Lease, run_traceparent: str = "") -> None:
        """Hands the job back, claimable at once; no loss is counted."""
        await self._fenced(queue_sql.RELEASE, lease, {"v_run": run_traceparent})

    async def store_inputs(self, lease: Lease, spec: bytes) -> None:
        """Replaces the spec by one that names assets, and removes the bytes that waited."""

        def work(connection: sa.Connection) -> None:
            _write(connection, queue_sql.STORE_SPEC, lease, {"v_spec": spec})
            connection.execute(sa.delete(job_inputs).where(job_inputs.c.job_id == lease.job_id))

        await self._database.write(work)

    async def commit_images(self, lease: Lease, images: bytes) -> bool:
        """The point of no return: stores what will be published unless a cancel came first, which answers False.

        A repeat keeps the first pictures and answers True.
        """
        return await self._database.write(lambda connection: _commit(connection, lease, images), brief=True)

    async def finish(self, lease: Lease, ending: Ending) -> Ended:
        """Ends the job: state, settlement, counters, event and cache in one transaction."""

        def work(connection: sa.Connection) -> Ended:
            ended = endings.end_leased(connection, lease, ending)
            if ended is None:
                raise _lost(lease)
            return ended

        return await self._database.write(work, brief=True)

    async def check(self, lease: Lease, margin_s: float) -> bool:
        """Whether the lease is still ours and lasts at least `margin_s` more."""
        values = _fence(lease)
        left = await self._database.read(lambda connection: connection.execute(queue_sql.HELD, values).scalar())
        return left is not None and left >= _us(margin_s)

    async def poke(self, job_id: str) -> None:
        """A fact about the job was stored elsewhere: it looks now if parked, else before it parks."""
        statement = sa.update(jobs).where(jobs.c.job_id == job_id).values(POKED)
        await self._database.write(lambda connection: connection.execute(statement) and None)

    async def depths(self) -> Mapping[str, int]:
        """Waiting jobs per lane."""
        rows = await self._database.read(lambda connection: connection.execute(queue_sql.DEPTHS).all())
        return {row.lane: row.waiting for row in rows}

    async def next_wake(self, lane: str) -> float | None:
        """Seconds until the next parked job or lease end of the lane is due; None when there is none."""
        left = await self._database.read(
            lambda connection: connection.execute(queue_sql.NEXT_WAKE, {"v_lane": lane}).scalar()
        )
        return None if left is None else max(0.0, left / 1e6)

    async def _fenced(self, statement: sa.Update, lease: Lease, values: Mapping[str, Any]) -> None:
        await self._database.write(lambda connection: _write(connection, statement, lease, values), brief=True)


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
    rows = connection.execute(queue_sql.CLAIM, values).all()
    if not rows:
        return []
    connection.execute(queue_sql.SERVED, {"v_lane": request.lane, "v_turn": max(row.turn for row in rows)})
    again = [row.job_id for row in rows if row.epoch > 1]
    if again:
        attempt_store.give_up_lost(connection, again)
    attempts = attempt_store.of_jobs(connection, again) if again else {}
    claimed = []
    for row in sorted(rows, key=lambda row: row.turn):
        job = _claimed_job(row, request.owner, attempts.get(row.job_id, ()))
        if job.step_losses >= request.max_losses:
            _give_up(connection, job)
        else:
            _tell_started(connection, job)
            claimed.append(job)
    return claimed


def _claimed_job(row: Any, owner: str, attempts: tuple[Attempt, ...]) -> ClaimedJob:
    values = {name: value for name, value in row._mapping.items() if name not in ("job_id", "epoch", "turn")}
    return ClaimedJob(lease=Lease(row.job_id, row.epoch, owner), attempts=attempts, **values)


def _give_up(connection: sa.Connection, job: ClaimedJob) -> None:
    """Ends a job that loses its workers. Past the point of no return it rests: its pictures may be out already."""
    if job.committed:
        resting = {"v_waiting_for": "RETRY", "v_lease_us": _us(LOST_REST_S), "v_run": job.run_traceparent}
        _write(connection, queue_sql.PARK, job.lease, resting)
        return
    text = f"the job's worker was lost {job.step_losses} times in the step {job.step or 'begin'!r}"
    endings.end_leased(connection, job.lease, Ending("FAILED", failure=Internal(text, reason="WORKER_LOST")))


def _tell_started(connection: sa.Connection, job: ClaimedJob) -> None:
    if job.lease.epoch == 1:
        subject = Subject(job.tenant, job.lease.job_id, job.version, job.start_time, job.traceparent, job.tracestate)
        outbox.append(connection, outbox_rows, job_events.started(subject))


def _heartbeat(connection: sa.Connection, owner: str, beats: Sequence[Beat], lease_s: float) -> Pulse:
    ids = [beat.lease.job_id for beat in beats]
    if not ids:
        return Pulse(frozenset(), frozenset())
    values = {"job_ids": ids, "v_owner": owner, "v_lease_us": _us(lease_s)}
    held = {(row.job_id, row.epoch): row for row in connection.execute(queue_sql.BEAT, values)}
    mine = [(beat, held[key]) for beat in beats if (key := (beat.lease.job_id, beat.lease.epoch)) in held]
    moves = [
        {"v_step": beat.step, "v_done": beat.progress[0], "v_steps": beat.progress[1], **_fence(beat.lease)}
        for beat, row in mine
        if (beat.step, beat.progress[0]) != (row.step, row.progress_step)
    ]
    if moves:
        connection.execute(queue_sql.MOVE, moves)
    lost = frozenset(ids) - {beat.lease.job_id for beat, _ in mine}
    return Pulse(frozenset(row.job_id for _, row in mine if row.cancel_requested), lost)


def _commit(connection: sa.Connection, lease: Lease, images: bytes) -> bool:
    if connection.execute(queue_sql.COMMIT, {"v_images": images, **_fence(lease)}).rowcount:
        return True
    if connection.execute(queue_sql.HELD, _fence(lease)).first() is None:
        raise _lost(lease)
    return False
