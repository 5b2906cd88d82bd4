"""The statements of the queue, built once. A lease's fence is `job_id`, `epoch` and RUNNING in every WHERE.

Giving a lease up raises the epoch as a claim does, so that nothing its holder still sends gets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mesh.db import now_us
from services.router.leases import DEADLINE_PAUSED_BY, ClaimedJob
from services.router.tables import jobs, lanes

_NOW = now_us()
_LEASE_END = _NOW + sa.bindparam("v_lease_us", type_=sa.BigInteger)
_MINE = (jobs.c.job_id == sa.bindparam("v_job"), jobs.c.epoch == sa.bindparam("v_epoch"), jobs.c.state == "RUNNING")

_CLAIMED = tuple(jobs.c[name] for name in ClaimedJob.__slots__ if name not in ("lease", "claim_time", "attempts"))


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
CLAIM = (
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
SERVED = (
    sa.update(lanes)
    .where(lanes.c.lane == sa.bindparam("v_lane"), lanes.c.served < sa.bindparam("v_turn"))
    .values(served=sa.bindparam("v_turn"))
)
BEAT = (
    sa.update(jobs)
    .where(jobs.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
    .where(jobs.c.lease_owner == sa.bindparam("v_owner"), jobs.c.state == "RUNNING")
    .values(lease_until=_LEASE_END, wake_at=_LEASE_END)
    .returning(jobs.c.job_id, jobs.c.epoch, jobs.c.cancel_requested, jobs.c.step, jobs.c.progress_step)
)
MOVE = (
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
PARK = (
    sa.update(jobs)
    .where(*_MINE)
    .values(
        epoch=jobs.c.epoch + 1,
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
RESUME = (
    sa.update(jobs)
    .where(*_MINE)
    .values(version=jobs.c.version + sa.case((jobs.c.waiting_for != "", 1), else_=0), waiting_for="", parked_at=None)
)
RELEASE = (
    sa.update(jobs)
    .where(*_MINE)
    .values(
        epoch=jobs.c.epoch + 1, lease_owner="", lease_until=None, wake_at=_NOW, run_traceparent=sa.bindparam("v_run")
    )
)
COMMIT = (
    sa.update(jobs)
    .where(*_MINE, sa.or_(jobs.c.committed, sa.not_(jobs.c.cancel_requested)))
    .values(
        committed=True,
        images=sa.case((jobs.c.committed, jobs.c.images), else_=sa.bindparam("v_images", type_=sa.LargeBinary)),
        step="publish",
        step_losses=sa.case((jobs.c.step == "publish", jobs.c.step_losses), else_=0),
    )
)
HELD = sa.select(jobs.c.lease_until - _NOW).where(*_MINE)
STORE_SPEC = sa.update(jobs).where(*_MINE).values(spec=sa.bindparam("v_spec"), has_inputs=False)
DEPTHS = sa.select(jobs.c.lane, sa.func.count().label("waiting")).where(_QUEUED).group_by(jobs.c.lane)
NEXT_WAKE = sa.select(sa.func.min(jobs.c.wake_at) - _NOW).where(_RUNNING, jobs.c.lane == sa.bindparam("v_lane"))
