"""Jobs that arrive together: one transaction, and nobody's error reaches a neighbour."""

from __future__ import annotations

import asyncio

from mesh.errors import AlreadyExists, ResourceExhausted
from services.router.intake import Intake
from services.router.job_store import JobStore
from services.router.records import Created, Repeatable
from services.router.tables import job_labels, job_requests, jobs
from tests.router.stores import Stores, new_job


async def test_a_group_is_stored_whole_with_turns_in_order(stores: Stores) -> None:
    await stores.budget(cap=10_000)
    group = [new_job(quote=10, labels={"n": str(n)}, repeatable=Repeatable(f"r{n}", b"h")) for n in range(50)]
    made = await asyncio.gather(*(stores.jobs.create(new) for new in group))
    assert [created.job_id for created in made] == [new.job_id for new in group]
    assert sorted(row.turn for row in await stores.rows(jobs)) == list(range(1, 51))
    assert await stores.open_reservations() == (500, 500)
    assert (len(await stores.rows(job_labels)), len(await stores.rows(job_requests))) == (50, 50)
    assert await stores.jobs.unfinished("acme") == 50
    assert await stores.events() == ["JobQueued"] * 50


async def test_a_refused_job_does_not_touch_its_neighbours(stores: Stores) -> None:
    await stores.budget(cap=100)
    first = new_job(quote=10, repeatable=Repeatable("used", b"body"))
    await stores.jobs.create(first)
    group = [
        new_job(quote=10),
        new_job(quote=500),  # over the cap
        new_job(quote=10, repeatable=Repeatable("used", b"body")),  # a repeat
        new_job(quote=10, repeatable=Repeatable("used", b"other")),  # a reuse
        new_job(quote=10, repeatable=Repeatable("new", b"body")),
        new_job(quote=10, repeatable=Repeatable("new", b"body")),  # a repeat within the group
    ]
    # the first goes alone, the others gather while it is committed
    made = await asyncio.gather(*(stores.jobs.create(new) for new in group), return_exceptions=True)
    kinds = [type(outcome) for outcome in made]
    assert kinds == [Created, ResourceExhausted, Created, AlreadyExists, Created, Created]
    repeat, again = made[2], made[5]
    assert isinstance(repeat, Created)
    assert isinstance(again, Created)
    assert (repeat.job_id, repeat.repeated) == (first.job_id, True)
    assert (again.job_id, again.repeated) == (group[4].job_id, True)
    assert await stores.open_reservations() == (30, 30)
    assert await stores.jobs.unfinished("acme") == 3


async def test_a_group_fills_the_queue_to_the_last_place(stores: Stores) -> None:
    intake = Intake(stores.database, queue_limit=7)
    made = await asyncio.gather(*(intake.create(new_job()) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, Created) for outcome in made) == 7
    assert {outcome.reason for outcome in made if isinstance(outcome, ResourceExhausted)} == {"QUEUE_FULL"}


async def test_two_processes_share_one_truth(stores: Stores) -> None:
    await stores.budget(cap=100)
    processes = [JobStore(stores.database) for _ in range(3)]
    group = [(process, new_job(quote=10)) for process in processes for _ in range(10)]
    made = await asyncio.gather(*(process.create(new) for process, new in group), return_exceptions=True)
    assert sum(isinstance(outcome, Created) for outcome in made) == 10
    assert await stores.open_reservations() == (100, 100)
