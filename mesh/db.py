"""SQL for the owners of truth: one small port over PostgreSQL and embedded SQLite.

Store code is synchronous SQLAlchemy Core: functions of a `Connection`. The port decides how they run:

- SQLite: one transaction at a time, because the file has one writer anyway. Writes that arrive while a commit is on
  its way share the next transaction (WAL, `synchronous=FULL`: an acknowledged write survives power loss), each in a
  savepoint of its own, so that one caller's error rolls back nobody else. Brief work runs on the event loop and only
  its commit in a thread; everything else in threads of its own.
- PostgreSQL: through asyncpg and `AsyncConnection.run_sync`, one transaction a write.

A thread gives the interpreter's lock up at each statement and fights the event loop to have it back: that costs more
than a statement that finds a few rows by their keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mesh.errors import Unavailable
from mesh.sqlite import BUSY_TIMEOUT_S, Outcome, Session, Work, sqlite_engine
from mesh.statements import insert_or_ignore as insert_or_ignore
from mesh.statements import now_us as now_us
from mesh.statements import upsert as upsert

T = TypeVar("T")

GROUP_LIMIT = 256  # writes that share one SQLite transaction
PENDING_LIMIT = 10_000  # writes that may wait for the SQLite writer
READERS = 4
BUSY_PAUSES_S = (0.0005, 0.001, 0.002)  # between looks whether another process has done writing
ABORTED_TRIES = 3
ABORTED_STATES = ("40P01", "40001")  # deadlock_detected, serialization_failure
# connection exception, insufficient resources, operator intervention (starting, stopping), read-only after a failover
PASSING_STATES = ("08", "53", "57", "25006")


@dataclass(frozen=True)
class DatabaseConfig:
    """Where the data lies.

    url: `sqlite:///path/to/file` or `postgresql+asyncpg://user:password@host/name`.
    pool_size: PostgreSQL connections kept open; SQLite has one writer and four readers.
    """

    url: str
    pool_size: int = 10


class Database(ABC):
    """Runs store functions in transactions. `close` may be called twice; nothing may be called after it."""

    dialect: str

    @abstractmethod
    async def read(self, work: Work[T], *, brief: bool = False) -> T:
        """Runs `work` in a read transaction.

        brief: it finds a few rows by their keys, so it may run where it is called, on the event loop.
        """

    @abstractmethod
    async def write(self, work: Work[T], *, brief: bool = False) -> T:
        """Runs `work` in a transaction and returns after its commit; an exception in it rolls it back.

        `work` must only talk to the database, since it may share a transaction with others. brief: as for `read`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Ends running work and closes every connection."""

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        await self.read(lambda connection: connection.execute(sa.select(1)).scalar_one())


def open_database(config: DatabaseConfig) -> Database:
    """The adapter that fits the URL. Connections are made on first use."""
    if sa.make_url(config.url).get_backend_name() == "sqlite":
        return SqliteDatabase(config)
    return PostgresDatabase(config)


@dataclass(frozen=True, slots=True)
class _Write:
    """A write that waits for its transaction."""

    work: Work[Any]
    brief: bool
    done: asyncio.Future[Any]


class SqliteDatabase(Database):
    """One file: one session that writes, with grouped commits, and a few that read."""

    dialect = "sqlite"

    def __init__(self, config: DatabaseConfig) -> None:
        self._engine = sqlite_engine(config.url, connections=READERS + 2)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sql-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sql-read")
        self._pending: deque[_Write] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._mine = threading.local()  # each reader thread's session
        self._opened: list[Session] = []
        self._writing: Session | None = None
        self._glancing: Session | None = None

    async def read(self, work: Work[T], *, brief: bool = False) -> T:
        """Runs `work` on a snapshot: here where it is brief, else in a reader thread."""
        if not brief:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)
        if self._glancing is None:
            self._glancing = self._open()
        return self._glancing.read(work)

    async def write(self, work: Work[T], *, brief: bool = False) -> T:
        """Queues `work` for the next transaction."""
        if len(self._pending) >= PENDING_LIMIT:
            raise Unavailable("the database has too many writes waiting", retry_after=1.0)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(_Write(work, brief, future))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain(), name="sql-write")
        return await future

    async def close(self) -> None:
        """Lets the queued writes finish, then closes the file."""
        if self._draining is not None:
            await self._draining
        await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        while self._opened:
            self._opened.pop().close()
        self._engine.dispose()

    def _open(self) -> Session:
        session = Session(self._engine)
        self._opened.append(session)
        return session

    def _read(self, work: Work[T]) -> T:
        session: Session | None = getattr(self._mine, "session", None)
        if session is None:
            session = self._mine.session = self._open()
        return session.read(work)

    async def _drain(self) -> None:
        while self._pending:
            begun = await self._begun()
            group = [self._pending.popleft() for _ in range(min(len(self._pending), GROUP_LIMIT))]
            outcomes = await self._commit(begun, group) if isinstance(begun, Session) else [(None, begun)] * len(group)
            for write, (value, error) in zip(group, outcomes, strict=True):
                _settle(write.done, value, error)

    async def _begun(self) -> Session | BaseException:
        """The writing session in a new transaction, or why there is none. Others who write are waited for here: SQLite
        itself would hold up the event loop, and sleeps for longer than most of them take."""
        try:
            if self._writing is None:
                self._writing = self._open()
                self._writing.never_wait()
            pauses = itertools.chain(BUSY_PAUSES_S, itertools.repeat(BUSY_PAUSES_S[-1]))
            end = time.monotonic() + BUSY_TIMEOUT_S
            while not self._writing.try_begin():
                if time.monotonic() >= end:
                    return Unavailable("the database is busy", retry_after=1.0)
                await asyncio.sleep(next(pauses))
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            return _failed(error)
        return self._writing

    async def _commit(self, session: Session, group: Sequence[_Write]) -> list[Outcome]:
        """One transaction for the group; what fails alone fails alone, a failed commit fails all."""
        works = [write.work for write in group]
        in_thread = functools.partial(asyncio.get_running_loop().run_in_executor, self._writer)
        try:
            if not all(write.brief for write in group):
                return await in_thread(_run_and_commit, session, works)
            outcomes = session.run(works)
            await in_thread(session.commit)
        except Exception as error:  # noqa: BLE001  every caller of the group must hear of it
            session.rollback()
            return [(None, _failed(error))] * len(group)
        return outcomes


def _run_and_commit(session: Session, works: Sequence[Work[Any]]) -> list[Outcome]:
    outcomes = session.run(works)
    session.commit()
    return outcomes


def _failed(error: BaseException) -> BaseException:
    """What callers hear when a whole transaction could not be."""
    if not isinstance(error, sqlite3.OperationalError | sa.exc.OperationalError):
        return error
    busy = Unavailable("the database is busy", retry_after=1.0)
    busy.__cause__ = error
    return busy


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():  # the caller was canceled meanwhile; the write stands
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class _AbortedByPeer(Unavailable):
    """PostgreSQL ended the transaction so that another could go on."""


class PostgresDatabase(Database):
    """A pool of asyncpg connections."""

    dialect = "postgresql"

    def __init__(self, config: DatabaseConfig) -> None:
        self._engine = postgres_engine(config)

    async def read(self, work: Work[T], *, brief: bool = False) -> T:
        """Runs `work` in a transaction of its own."""
        return await self.write(work)

    async def write(self, work: Work[T], *, brief: bool = False) -> T:
        """Runs `work` and commits; again when PostgreSQL aborts it to resolve a deadlock."""
        for _ in range(ABORTED_TRIES - 1):
            with contextlib.suppress(_AbortedByPeer):
                return await self._once(work)
        return await self._once(work)

    async def _once(self, work: Work[T]) -> T:
        try:
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") in ABORTED_STATES:
                raise _AbortedByPeer("the database's rows are contended", retry_after=1.0) from error
            lost = error.connection_invalidated or isinstance(error, sa.exc.InterfaceError)
            if not (lost or _passes(error.orig)):
                raise
            raise Unavailable("the database's connection broke", retry_after=1.0) from error
        except asyncpg.PostgresError as error:  # the refusal of a new connection comes bare
            if not _passes(error):
                raise
            raise Unavailable("the database takes no connection now", retry_after=1.0) from error
        except (OSError, sa.exc.TimeoutError) as error:
            raise Unavailable("the database does not answer", retry_after=1.0) from error

    async def close(self) -> None:
        """Closes the pool."""
        await self._engine.dispose()


def _passes(error: object) -> bool:
    """Whether PostgreSQL says that it cannot now, not that the work is wrong."""
    return str(getattr(error, "sqlstate", "")).startswith(PASSING_STATES)


def postgres_engine(config: DatabaseConfig) -> AsyncEngine:
    """An asyncpg engine with deadlines on connecting and on every statement."""
    return create_async_engine(
        config.url,
        hide_parameters=True,  # an error's text may reach a log, and parameters hold prompts
        pool_size=config.pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={"timeout": 5, "command_timeout": 30},
    )
