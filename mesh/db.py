"""SQL for the owners of truth: one small port over PostgreSQL and embedded SQLite.

Store code is synchronous SQLAlchemy Core: functions of a `Connection`. The port decides how they run:

- SQLite: in one writer thread, because the file has one writer anyway. Writes that arrive while a commit is on its way
  share the next transaction (WAL, `synchronous=FULL`: an acknowledged write survives power loss), each in a savepoint
  of its own, so that one caller's error rolls back nobody else. Reads run in a few reader threads.
- PostgreSQL: through asyncpg and `AsyncConnection.run_sync`, one transaction a write.

A thread hop for each statement, as async SQLite drivers make it, costs more than the statements themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from mesh.errors import Unavailable
from mesh.statements import insert_or_ignore as insert_or_ignore
from mesh.statements import now_us as now_us
from mesh.statements import upsert as upsert

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

GROUP_LIMIT = 256  # writes that share one SQLite transaction
PENDING_LIMIT = 10_000  # writes that may wait for the SQLite writer
READERS = 4
BUSY_TIMEOUT_S = 5.0
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
    async def read(self, work: Work[T]) -> T:
        """Runs `work` in a read transaction."""

    @abstractmethod
    async def write(self, work: Work[T]) -> T:
        """Runs `work` in a transaction and returns after its commit; an exception in it rolls it back.

        `work` must only talk to the database, since it may share a transaction with others.
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


class SqliteDatabase(Database):
    """One file, one writer thread with grouped commits, a few readers."""

    dialect = "sqlite"

    def __init__(self, config: DatabaseConfig) -> None:
        self._writing = sqlite_engine(config.url, "BEGIN IMMEDIATE", connections=1)
        self._reading = sqlite_engine(config.url, "BEGIN", connections=READERS)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sql-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sql-read")
        self._pending: deque[tuple[Work[Any], asyncio.Future[Any]]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._mine = threading.local()  # a thread keeps its connection: taking one costs as much as a statement
        self._opened: list[sa.Connection] = []

    async def read(self, work: Work[T]) -> T:
        """Runs `work` in a reader thread on a snapshot."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def write(self, work: Work[T]) -> T:
        """Queues `work` for the writer's next transaction."""
        if len(self._pending) >= PENDING_LIMIT:
            raise Unavailable("the database has too many writes waiting", retry_after=1.0)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append((work, future))
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
        for connection in self._opened:
            connection.close()
        self._writing.dispose()
        self._reading.dispose()

    def _read(self, work: Work[T]) -> T:
        connection = self._connection(self._reading)
        with connection.begin():
            return work(connection)

    def _connection(self, engine: sa.Engine) -> sa.Connection:
        connection: sa.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = engine.connect()
            self._opened.append(connection)
        return connection

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            group = [self._pending.popleft() for _ in range(min(len(self._pending), GROUP_LIMIT))]
            outcomes = await loop.run_in_executor(self._writer, self._commit, [work for work, _ in group])
            for (_, future), (value, error) in zip(group, outcomes, strict=True):
                _settle(future, value, error)

    def _commit(self, group: list[Work[Any]]) -> list[tuple[Any, BaseException | None]]:
        """One transaction for the group; what fails alone fails alone, a failed commit fails all."""
        try:
            connection = self._connection(self._writing)
            with connection.begin():
                return [_in_savepoint(connection, work) for work in group]
        except OperationalError as error:
            busy = Unavailable("the database is busy", retry_after=1.0)
            busy.__cause__ = error
            return [(None, busy) for _ in group]
        except BaseException as error:  # noqa: BLE001  every caller of the group must hear of it
            return [(None, error) for _ in group]


def _in_savepoint(connection: sa.Connection, work: Work[T]) -> tuple[T | None, BaseException | None]:
    execute = connection.connection.cursor().execute  # the driver's own: these statements have nothing to compile
    execute("SAVEPOINT one_write")
    try:
        value = work(connection)
    except BaseException as error:  # noqa: BLE001  handed to the caller who queued the work
        execute("ROLLBACK TO one_write")
        execute("RELEASE one_write")
        return None, error
    execute("RELEASE one_write")
    return value, None


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():  # the caller was canceled meanwhile; the write stands
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def sqlite_engine(url: str, begin: str, connections: int) -> sa.Engine:
    """A synchronous engine on the file whose transactions start with `begin`."""
    engine = sa.create_engine(
        url,
        hide_parameters=True,  # an error's text may reach a log, and parameters hold prompts
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


class _AbortedByPeer(Unavailable):
    """PostgreSQL ended the transaction so that another could go on."""


class PostgresDatabase(Database):
    """A pool of asyncpg connections."""

    dialect = "postgresql"

    def __init__(self, config: DatabaseConfig) -> None:
        self._engine = postgres_engine(config)

    async def read(self, work: Work[T]) -> T:
        """Runs `work` in a transaction of its own."""
        return await self.write(work)

    async def write(self, work: Work[T]) -> T:
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
