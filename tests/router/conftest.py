"""Fixtures of the router's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import services.router
from mesh.db import DatabaseConfig, open_database
from services.router.attempt_store import AttemptStore
from services.router.job_store import JobStore
from services.router.ledger_store import LedgerStore
from services.router.queue_store import QueueStore
from tests.router.stores import Stores
from tests.schemas import migrated

MIGRATIONS = Path(services.router.__file__).parent / "migrations"


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    """The router's stores over a fresh database, once on SQLite and once on PostgreSQL."""
    await migrated(database_url, MIGRATIONS)
    database = open_database(DatabaseConfig(database_url))
    yield Stores(database, JobStore(database), QueueStore(database), AttemptStore(database), LedgerStore(database))
    await database.close()
