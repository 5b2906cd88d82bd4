"""The result cache in SQL. Entries are written where jobs end (see `endings`); only published pictures enter."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import Database
from services.router.tables import cache_entries

_LOOKUP = sa.select(cache_entries.c.job_id, cache_entries.c.images, cache_entries.c.create_time).where(
    cache_entries.c.cache_key == sa.bindparam("v_key"), cache_entries.c.tenant == sa.bindparam("v_tenant")
)


@dataclass(frozen=True, slots=True)
class CacheHit:
    """An earlier result. images: serialised `router.v1.Job` with only `images`."""

    job_id: str
    images: bytes
    create_time: int


class CacheStore:
    """Results by cache key, of one tenant each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lookup(self, tenant: str, cache_key: str) -> CacheHit | None:
        """The newest result under this key, if any. Its assets may have been taken down since; storage says."""
        values = {"v_key": cache_key, "v_tenant": tenant}
        row = await self._database.read(lambda connection: connection.execute(_LOOKUP, values).one_or_none())
        return None if row is None else CacheHit(*row)

    async def forget(self, cache_key: str) -> None:
        """Drops an entry whose assets are no longer published."""
        gone = sa.delete(cache_entries).where(cache_entries.c.cache_key == cache_key)
        await self._database.write(lambda connection: connection.execute(gone).rowcount)
