"""The migrations make exactly the tables that the code knows, and keep what was there."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import services.moderation
from mesh.db import DatabaseConfig, open_database
from mesh.migrate import upgrade
from services.moderation.__main__ import MIGRATIONS
from services.moderation.tables import METADATA, VERSION_TABLE

for module in pkgutil.iter_modules(services.moderation.__path__):
    if module.name.endswith("_tables"):
        importlib.import_module(f"services.moderation.{module.name}")


def differences(connection: sa.Connection) -> list[object]:
    options = {"version_table": VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


async def test_migrations_and_tables_agree(database_url: str) -> None:
    await asyncio.gather(*(upgrade(database_url, MIGRATIONS) for _ in range(2)))
    database = open_database(DatabaseConfig(database_url))
    assert await database.read(differences) == []
    await database.close()
