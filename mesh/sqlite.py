"""SQLite connections, and transactions that are begun and ended past SQLAlchemy: it spends more on that than SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
Outcome = tuple[Any, BaseException | None]
"""What a piece of work came to: its value, or the error that undid it."""

BUSY_TIMEOUT_S = 5.0


def sqlite_engine(url: str, connections: int) -> sa.Engine:
    """A synchronous engine on the file. Its connections begin no transaction by themselves."""
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

    return engine


class Session:
    """One connection for good, since taking one costs as much as a statement. One thread may use it at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._connection = engine.connect()
        self._connection.begin()  # to SQLAlchemy one transaction without end; only the driver hears of the real ones
        self._driver = cast(sqlite3.Connection, self._connection.connection.driver_connection)
        self._execute = self._driver.cursor().execute

    def close(self) -> None:
        """Ends what is open and gives the connection back."""
        self._connection.close()

    def never_wait(self) -> None:
        """From now on a lock that another connection holds is an answer, not a wait."""
        self._execute("PRAGMA busy_timeout=0")

    def try_begin(self) -> bool:
        """Begins to write; False while another connection writes."""
        try:
            self._execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return True

    def commit(self) -> None:
        """Makes what was written last; nothing when it is undone already."""
        if self._driver.in_transaction:
            self._execute("COMMIT")

    def rollback(self) -> None:
        """Undoes what was written."""
        if self._driver.in_transaction:
            self._execute("ROLLBACK")

    def read(self, work: Work[T]) -> T:
        """Runs `work` on a snapshot."""
        self._execute("BEGIN")
        try:
            return work(self._connection)
        finally:
            self.rollback()

    def run(self, works: Sequence[Work[Any]]) -> list[Outcome]:
        """Each work in the running transaction. One that fails undoes itself alone."""
        if len(works) == 1:
            return [self._alone(works[0])]
        return [self._one_of_many(work) for work in works]

    def _alone(self, work: Work[Any]) -> Outcome:
        try:
            return work(self._connection), None
        except BaseException as error:  # noqa: BLE001  handed to the caller who queued the work
            self.rollback()
            return None, error

    def _one_of_many(self, work: Work[Any]) -> Outcome:
        try:
            with self._savepoint():
                return work(self._connection), None
        except BaseException as error:
            if not self._driver.in_transaction:  # SQLite undid everything, as it does when the disk is full
                raise
            return None, error

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._execute("SAVEPOINT one_write")
        try:
            yield
        except BaseException:
            if self._driver.in_transaction:
                self._execute("ROLLBACK TO one_write")
                self._execute("RELEASE one_write")
            raise
        self._execute("RELEASE one_write")
