"""Whatever workers, callers and crashes do in whatever order: fences hold, money adds up, nothing stays reserved."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from mesh.db import Database
from mesh.errors import FailedPrecondition, ResourceExhausted
from services.router.attempt_store import AttemptEnd, AttemptStore
from services.router.job_store import JobStore
from services.router.leases import Beat, ClaimedJob, Ending, LeaseLost, Parking
from services.router.ledger_store import LedgerStore
from services.router.queue_store import QueueStore
from services.router.tables import attempts, budgets, jobs, lanes, ledger_entries, metadata, tenants
from tests.router.stores import Stores, new_attempt

CAP = 1000
WORKERS = st.sampled_from(["w1", "w2", "w3"])


class InMemory(Database):
    """Runs everything at once, on a database that is gone afterwards."""

    dialect = "sqlite"

    def __init__(self) -> None:
        self._engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        with self._engine.begin() as connection:
            metadata.create_all(connection)
            connection.execute(sa.insert(lanes), [{"lane": "INTERACTIVE"}, {"lane": "BATCH"}])

    async def read(self, work: Any, *, brief: bool = False) -> Any:
        return await self.write(work)

    async def write(self, work: Any, *, brief: bool = False) -> Any:
        with self._engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        self._engine.dispose()


class QueueAndLedger(RuleBasedStateMachine):
    ids = Bundle("ids")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        database = InMemory()
        self.stores = Stores(
            database, JobStore(database, 6), QueueStore(database), AttemptStore(database), LedgerStore(database)
        )
        self.latest: dict[str, int] = {}
        self.finished: dict[str, str] = {}
        self.pairs: dict[str, bytes] = {}
        self.run(self.stores.budget(CAP))

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def fenced(self, job: ClaimedJob, work: Any) -> Any:
        """Runs a write of the lease's holder: it fails if and only if the lease is not the newest or all is over."""
        job_id = job.lease.job_id
        good = self.latest[job_id] == job.lease.epoch and job_id not in self.finished
        try:
            result = self.run(work)
        except LeaseLost:
            assert not good
            return None
        assert good, "a stale write got through"
        return result

    @rule(target=ids, quote=st.sampled_from([0, 50, 400]), tenant=st.sampled_from(["acme", "beta"]))
    def submit(self, quote: int, tenant: str) -> Any:
        try:
            return tenant, self.run(self.stores.submit(tenant=tenant, quote=quote))
        except ResourceExhausted:
            return tenant, "job_none"

    @rule(target=leases, owner=WORKERS, limit=st.integers(1, 3), lease=st.sampled_from([-1.0, 60.0]))
    def claim(self, owner: str, limit: int, lease: float) -> Any:
        claimed = self.run(self.stores.claim(limit=limit, owner=owner, lease_s=lease))
        for job in claimed:
            job_id = job.lease.job_id
            assert job.lease.epoch > self.latest.get(job_id, 0)
            assert job_id not in self.finished
            assert job.committed == (job_id in self.pairs)
            if job.committed:
                assert job.images == self.pairs[job_id]
            self.latest[job_id] = job.lease.epoch
        self.note_lost()
        return claimed[0] if claimed else None

    def note_lost(self) -> None:
        for row in self.run(self.stores.rows(jobs)):
            if row.error_reason == "WORKER_LOST":
                self.finished.setdefault(row.job_id, "FAILED")
                self.latest[row.job_id] = row.epoch

    @rule(job=leases, lease=st.sampled_from([-1.0, 60.0]))
    def heartbeat(self, job: ClaimedJob | None, lease: float) -> None:
        if job is None:
            return
        pulse = self.run(self.stores.queue.heartbeat(job.lease.owner, [Beat(job.lease, "draw")], lease))
        job_id = job.lease.job_id
        if self.latest[job_id] != job.lease.epoch or job_id in self.finished:
            assert job_id in pulse.lost

    @rule(job=leases, reason=st.sampled_from(["REVIEW", "PROVIDER"]), seconds=st.sampled_from([-1.0, 60.0]))
    def park(self, job: ClaimedJob | None, reason: str, seconds: float) -> None:
        if job is not None:
            self.fenced(job, self.stores.queue.park(job.lease, Parking(reason, seconds)))
            self.gave_up(job)

    def gave_up(self, job: ClaimedJob) -> None:
        self.latest[job.lease.job_id] = max(self.latest[job.lease.job_id], job.lease.epoch + 1)

    @rule(job=leases)
    def release(self, job: ClaimedJob | None) -> None:
        if job is not None:
            self.fenced(job, self.stores.queue.release(job.lease))
            self.gave_up(job)

    @rule(job=leases, unknown=st.booleans())
    def attempt(self, job: ClaimedJob | None, unknown: bool) -> None:
        if job is None:
            return
        attempt = new_attempt(worst_micros=30)
        if self.fenced(job, self.stores.attempts.begin(job.lease, attempt)) and unknown:
            self.fenced(job, self.stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN")))

    @rule(job=leases)
    def commit(self, job: ClaimedJob | None) -> None:
        if job is None:
            return
        pairs = f"pairs-{job.lease.epoch}".encode()
        if self.fenced(job, self.stores.queue.commit_images(job.lease, pairs)):
            self.pairs.setdefault(job.lease.job_id, pairs)

    @rule(job=leases, state=st.sampled_from(["SUCCEEDED", "FAILED", "BLOCKED"]), cost=st.sampled_from([0, 40, 900]))
    def finish(self, job: ClaimedJob | None, state: str, cost: int) -> None:
        if job is None:
            return
        ending = Ending(state, images=b"" if state == "SUCCEEDED" else None, cost_micros=cost)
        if self.fenced(job, self.stores.queue.finish(job.lease, ending)):
            assert job.lease.job_id not in self.finished, "a job ended twice"
            self.finished[job.lease.job_id] = state

    @rule(job=ids)
    def cancel(self, job: tuple[str, str]) -> None:
        tenant, job_id = job
        if job_id == "job_none":
            return
        try:
            canceled = self.run(self.stores.jobs.cancel(tenant, job_id))
        except FailedPrecondition:
            assert job_id in self.finished or job_id in self.pairs
            return
        assert job_id not in self.pairs or self.finished.get(job_id) == "CANCELED"
        if canceled.ended:
            self.finished[job_id] = "CANCELED"

    @invariant()
    def states_are_as_written(self) -> None:
        for row in self.run(self.stores.rows(jobs)):
            expected = self.finished.get(row.job_id)
            assert row.state == expected if expected else row.state in ("QUEUED", "RUNNING")

    @invariant()
    def money_adds_up(self) -> None:
        rows = self.run(self.stores.rows(jobs))
        entries = self.run(self.stores.rows(ledger_entries))
        (budget,) = self.run(self.stores.rows(budgets))
        debits = {entry.job_id: entry.amount_micros for entry in entries if entry.kind == "DEBIT"}
        assert len(debits) == sum(entry.kind == "DEBIT" for entry in entries)
        assert set(debits) == {row.job_id for row in rows if row.state == "SUCCEEDED"}
        assert all(debits[row.job_id] <= row.reserved_micros for row in rows if row.job_id in debits)
        unfinished = [row for row in rows if row.state in ("QUEUED", "RUNNING")]
        assert budget.reserved_micros == sum(row.reserved_micros for row in unfinished)
        assert budget.spent_micros == sum(debits.values())
        assert budget.reserved_micros + budget.spent_micros <= CAP
        unknown = [row for row in self.run(self.stores.rows(attempts)) if row.state == "UNKNOWN"]
        assert budget.held_micros == sum(row.worst_micros for row in unknown)

    @invariant()
    def depths_add_up(self) -> None:
        rows = self.run(self.stores.rows(jobs))
        for tenant in self.run(self.stores.rows(tenants)):
            mine = [row for row in rows if row.tenant == tenant.tenant and row.state in ("QUEUED", "RUNNING")]
            assert tenant.unfinished == len(mine)

    def teardown(self) -> None:
        self.run(self.stores.database.close())


TestQueueAndLedger = QueueAndLedger.TestCase
TestQueueAndLedger.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
