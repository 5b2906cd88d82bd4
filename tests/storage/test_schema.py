"""The migrations make exactly the tables that the code knows."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mesh.db import DatabaseConfig, open_database
from mesh.migrate import upgrade
from services.storage.__main__ import MIGRATIONS
from services.storage.tables import METADATA, VERSION_TABLE


def differences(connection: sa.Connection) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


async def test_migrations_and_tables_agree(database_url: str) -> None:
    await upgrade(database_url, MIGRATIONS)
    database = open_database(DatabaseConfig(database_url))
    assert await database.read(differences) == []
    await database.close()


async def test_migrating_twice_and_at_the_same_time_is_fine(database_url: str) -> None:
    await asyncio.gather(*(upgrade(database_url, MIGRATIONS) for _ in range(3)))
    await upgrade(database_url, MIGRATIONS)
