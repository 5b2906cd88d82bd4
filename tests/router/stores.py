"""Jobs and leases for the tests of the router's stores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from imagemesh.router.v1 import job_pb2

from mesh.db import Database
from mesh.ids import new_id
from services.router import ledger_store
from services.router.attempt_store import AttemptStore, NewAttempt
from services.router.job_store import JobStore
from services.router.leases import ClaimedJob, ClaimRequest
from services.router.ledger_store import LedgerStore
from services.router.queue_store import QueueStore
from services.router.records import Identity, JobRecord, NewJob
from services.router.tables import budgets, jobs, ledger_entries, outbox

KEY = "key_test"


@dataclass(frozen=True)
class Stores:
    """Every store over one database."""

    database: Database
    jobs: JobStore
    queue: QueueStore
    attempts: AttemptStore
    ledger: LedgerStore

    async def rows(self, table: sa.Table) -> list[Any]:
        return await self.database.read(lambda c: list(c.execute(sa.select(table)).all()))

    async def budget(self, cap: int | None, key: str = KEY, tenant: str = "acme") -> None:
        await self.database.write(lambda c: ledger_store.open_budget(c, key, tenant, cap))

    async def submit(self, **changes: Any) -> str:
        new = new_job(**changes)
        return (await self.jobs.create(new)).job_id

    async def claim(self, limit: int = 10, owner: str = "w1", lease_s: float = 30, **changes: Any) -> list[ClaimedJob]:
        return await self.queue.claim(replace(ClaimRequest(owner, "INTERACTIVE", limit, lease_s), **changes))

    async def take(self, **changes: Any) -> ClaimedJob:
        await self.submit(**changes)
        (job,) = await self.claim()
        return job

    async def record(self, job_id: str) -> JobRecord:
        return (await self.jobs.many([job_id]))[0][0]

    async def kinds(self) -> list[tuple[str, int]]:
        return [(row.kind, row.amount_micros) for row in await self.rows(ledger_entries)]

    async def events(self) -> list[str]:
        return [row.type for row in await self.rows(outbox)]

    async def open_reservations(self) -> tuple[int, int]:
        """What the budgets say is reserved, and what unfinished jobs with a key have reserved."""

        def work(connection: sa.Connection) -> tuple[int, int]:
            told = connection.execute(sa.select(sa.func.sum(budgets.c.reserved_micros))).scalar() or 0
            query = sa.select(sa.func.sum(jobs.c.reserved_micros)).where(
                jobs.c.state.in_(["QUEUED", "RUNNING"]), jobs.c.key_id != ""
            )
            return int(told), int(connection.execute(query).scalar() or 0)

        return await self.database.read(work)


def new_job(tenant: str = "acme", key: str = KEY, quote: int = 0, **changes: Any) -> NewJob:
    made = NewJob(
        job_id=new_id("job"),
        identity=Identity(tenant, key),
        lane="INTERACTIVE",
        model="auto",
        spec=job_pb2.GenerationSpec(prompt="a red circle", seed=7).SerializeToString(),
        options=b"",
        seed_drawn=False,
        deadline_s=600,
        quoted_micros=quote,
        event=b"",
    )
    return replace(made, **changes)


def new_attempt(**changes: Any) -> NewAttempt:
    made = NewAttempt(new_id("att"), "openai", "gpt-image-1", "1", replay_safe=False, indices=(0,), worst_micros=500)
    return replace(made, **changes)
