"""Pieces of SQL that both dialects know: the database's clock, and inserts that meet a row already there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles


class now_us(sa.sql.functions.FunctionElement[int]):  # noqa: N801  reads as the SQL function it is
    """The database's clock: integer microseconds since 1970-01-01 UTC (SQLite: in steps of a millisecond)."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(now_us, "sqlite")
def _now_sqlite(_element: now_us, _compiler: Any, **_: Any) -> str:
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)"


@compiles(now_us, "postgresql")
def _now_postgresql(_element: now_us, _compiler: Any, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS BIGINT)"


INSERTS: Mapping[str, Callable[[sa.Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def upsert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update` in the connection's dialect."""
    return INSERTS[connection.dialect.name](table)


def insert_or_ignore(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Inserts the row unless a unique constraint stands against it; tells whether it was inserted."""
    result = connection.execute(_insert_or_ignore(connection.dialect.name, table), dict(values))
    return result.rowcount > 0


@lru_cache(maxsize=64)
def _insert_or_ignore(dialect: str, table: sa.Table) -> sa.Insert:
    """Kept, since putting a statement together costs more than running it."""
    return INSERTS[dialect](table).on_conflict_do_nothing()
