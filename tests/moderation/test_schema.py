"""The migrations make exactly the tables that the code knows, and keep what was there."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import services.moderation
from mesh.db import DatabaseConfig, open_database
from mesh.migrate import upgrade
from services.moderation.__main__ import MIGRATIONS
from services.moderation.tables import METADATA, VERSION_TABLE
from tests.moderation.audit_rig import rig

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


def first_schema(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    row = {
        "tenant": "acme",
        "action": "PROMPT_JUDGED",
        "actor": "mesh",
        "end_user": "ann",
        "trace_id": "",
        "scores": "[]",
    }
    row |= {"verdict_id": "v", "decision": "ALLOW", "policy_id": "default", "policy_version": 1, "policy_etag": "e"}
    row |= {"model_versions": "[]", "sha256": "00", "length": 1, "job_id": "", "asset_id": ""}
    table = sa.table("audit_records", *map(sa.column, [*row, "record_id", "create_us"]))
    for number in (2, 1, 3):
        connection.execute(sa.insert(table), {**row, "record_id": f"aud_{number}", "create_us": number})


async def test_records_from_before_the_chain_are_kept_in_their_order(database_url: str, tmp_path: Path) -> None:
    database = open_database(DatabaseConfig(database_url))
    await database.write(first_schema)
    await database.close()
    async with rig(database_url, tmp_path / "checkpoints") as audit:
        await audit.append(2)
        rows = await audit.rows()
        assert [row["sequence"] for row in rows] == [-3, -2, -1, 1, 2]
        assert [row["record_id"] for row in rows[:3]] == ["aud_1", "aud_2", "aud_3"]
        assert await audit.audit.sweeper.sweep() == 0
        assert len(await audit.rows()) == 5
        await audit.erase()
        report = await audit.verify()
        assert (report.broken, report.checked) == (None, 3)
        assert "ann" not in str(await audit.rows())
