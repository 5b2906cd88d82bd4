"""Migrated databases for tests, at the price of a copy: each service's migrations run once a test process.

A database that holds something already, as after a restart, is upgraded in place. The migrations themselves are tested
where `mesh.migrate.upgrade` is called directly (`test_migrations`, `test_schema`).
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
from functools import lru_cache
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from mesh.migrate import upgrade

_MADE: dict[tuple[str, Path], str] = {}
"""Templates of this process: path or name, by where they are and whose migrations they have."""


async def migrated(url: str, migrations: Path) -> None:
    """Brings the database at `url` to the newest schema: an empty one by a copy, any other by its migrations."""
    place = make_url(url)
    if await _in_use(place):
        await upgrade(url, migrations)
    elif place.get_backend_name() == "sqlite":
        await _copied(place, migrations)
    else:
        await _cloned(place, migrations)


async def _in_use(place: URL) -> bool:
    if place.get_backend_name() == "sqlite":
        file = Path(str(place.database))
        return file.exists() and file.stat().st_size > 0
    import asyncpg

    parts = {"host": place.host, "port": place.port, "user": place.username, "database": place.database}
    server = await asyncpg.connect(**parts)
    try:
        return bool(await server.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
    finally:
        await server.close()


async def _copied(place: URL, migrations: Path) -> None:
    key = ("sqlite", migrations)
    if key not in _MADE:
        template = _folder() / f"{migrations.parent.name}.db"
        await upgrade(f"sqlite:///{template}", migrations)
        _MADE[key] = str(template)
    shutil.copyfile(_MADE[key], str(place.database))


async def _cloned(place: URL, migrations: Path) -> None:
    import asyncpg

    key = (f"{place.host}:{place.port}", migrations)
    server = await asyncpg.connect(host=place.host, port=place.port, user=place.username, database="postgres")
    try:
        if key not in _MADE:
            template = f"template_{uuid.uuid4().hex}"
            await server.execute(f"CREATE DATABASE {template}")
            await upgrade(place.set(database=template).render_as_string(hide_password=False), migrations)
            _MADE[key] = template
        await server.execute(f"DROP DATABASE {place.database}")
        await server.execute(f"CREATE DATABASE {place.database} TEMPLATE {_MADE[key]}")
    finally:
        await server.close()


@lru_cache(maxsize=1)
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="imagemesh-schemas-", dir=memory_folder()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def memory_folder() -> str | None:
    """A folder in memory where there is one with room; None for the usual place."""
    shared = Path("/dev/shm")
    if not (shared.is_dir() and os.access(shared, os.W_OK)):
        return None
    return str(shared) if shutil.disk_usage(shared).free > 2 * 1024**3 else None
