"""Reading what services have stored, past the services."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import asyncpg

Rows = list[tuple[Any, ...]]


class Truth(Protocol):
    """The SQL that the services of one mesh own."""

    def rows(self, service: str, query: str) -> Rows: ...


class SqliteTruth:
    """The files under a home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def rows(self, service: str, query: str) -> Rows:
        path = self._home / "data" / f"{service}.sqlite"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


class PostgresTruth:
    """A PostgreSQL database for each service, by URL."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls

    def rows(self, service: str, query: str) -> Rows:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._read(service, query)).result()

    async def _read(self, service: str, query: str) -> Rows:
        connection = await asyncpg.connect(self._urls[service].replace("+asyncpg", ""))
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()
