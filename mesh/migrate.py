"""Schema migrations: Alembic, run by the service itself before it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from mesh.db import DatabaseConfig, postgres_engine
from mesh.sqlite import sqlite_engine


async def upgrade(url: str, migrations: Path) -> None:
    """Brings the schema to the newest revision in `migrations`; safe when several processes do it at once."""
    if sa.make_url(url).get_backend_name() == "sqlite":
        await asyncio.to_thread(_upgrade_sqlite, url, migrations)
        return
    engine = postgres_engine(DatabaseConfig(url, pool_size=1))
    try:
        async with engine.begin() as connection:
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(7366011)"))
            await connection.run_sync(_alembic, migrations)
    finally:
        await engine.dispose()


def _upgrade_sqlite(url: str, migrations: Path) -> None:
    engine = sqlite_engine(url, connections=1)
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _alembic(connection, migrations)
    engine.dispose()


def _alembic(connection: sa.Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_migrations(metadata: sa.MetaData, version_table: str) -> None:
    """The body of a service's `migrations/env.py`; `version_table` keeps services apart in one database."""
    from alembic import context

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table=version_table,
        transaction_per_migration=False,
    )
    context.run_migrations()
