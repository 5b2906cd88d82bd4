"""New jobs that arrive together share one transaction.

A commit takes longer than a submit, so while one is on its way others gather; the next transaction takes them all with
a handful of statements. When one of them is refused the group is stored one by one instead, so nobody's error reaches a
neighbour.
"""

from __future__ import annotations

import asyncio
from collections import deque

import sqlalchemy as sa

from mesh.db import Database
from mesh.errors import MeshError, ResourceExhausted, Unavailable
from services.router import job_insert
from services.router.records import Created, NewJob

GROUP_LIMIT = 128
WAITING_LIMIT = 10_000

Outcome = Created | MeshError


class Intake:
    """Stores jobs in groups. `queue_limit` bounds a tenant's unfinished jobs."""

    def __init__(self, database: Database, queue_limit: int) -> None:
        self._database = database
        self._queue_limit = queue_limit
        self._waiting: deque[tuple[NewJob, asyncio.Future[Created]]] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def create(self, new: NewJob) -> Created:
        """Returns after the commit that holds the job; raises as `job_insert.insert`."""
        if len(self._waiting) >= WAITING_LIMIT:
            raise Unavailable("too many jobs wait to be stored", retry_after=1.0)
        future: asyncio.Future[Created] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, future))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="intake")
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_LIMIT))]
            for (_, future), outcome in zip(group, await self._stored([new for new, _ in group]), strict=True):
                _settle(future, outcome)

    async def _stored(self, group: list[NewJob]) -> list[Outcome] | list[BaseException]:
        try:
            brief = not any(new.inputs for new in group)
            return await self._database.write(lambda c: store(c, group, self._queue_limit), brief=brief)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            return [error for _ in group]


def store(connection: sa.Connection, group: list[NewJob], queue_limit: int) -> list[Outcome]:
    """All of them at once where nothing stands against any, else one by one; for a single job that raises."""
    if len(group) == 1:
        return [job_insert.insert(connection, group[0], queue_limit)]
    try:
        with connection.begin_nested():
            return [*job_insert.insert_all(connection, group, queue_limit)]
    except (sa.exc.IntegrityError, ResourceExhausted):
        pass
    return [_store_one(connection, new, queue_limit) for new in group]


def _store_one(connection: sa.Connection, new: NewJob, queue_limit: int) -> Outcome:
    try:
        with connection.begin_nested():
            return job_insert.insert(connection, new, queue_limit)
    except MeshError as error:
        return error


def _settle(future: asyncio.Future[Created], outcome: Outcome | BaseException) -> None:
    if future.done():  # the caller was canceled meanwhile; the job stands
        return
    if isinstance(outcome, Created):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)
