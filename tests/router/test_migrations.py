"""The migrations make exactly the tables that the code works with."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from mesh.migrate import upgrade
from services.router.config import MIGRATIONS
from services.router.tables import metadata
from tests.router.stores import Stores


async def test_the_migrated_schema_is_the_one_in_tables(stores: Stores, database_url: str) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": "router_schema"})
        return compare_metadata(context, metadata)

    assert await stores.database.write(differences) == []
    await upgrade(database_url, MIGRATIONS)  # a repeat changes nothing
