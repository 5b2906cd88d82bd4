"""The result cache in SQL. Entries are written where jobs end (see `endings`); only published pictures enter."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import Database, now_us
from services.router.tables import cache_entries

_LOOKUP = sa.select(cache_entries.c.job_id, cache_entries.c.images, cache_entries.c.create_time).where(
    cache_entries.c.cache_key == sa.bindparam("v_key"), cache_entries.c.tenant == sa.bindparam("v_tenant")
)

_OLD = sa.select(cache_entries.c.cache_key).order_by(cache_entries.c.create_time).limit(sa.bindparam("v_limit"))
_NEWEST_TOO_MANY = (
    sa.select(cache_entries.c.create_time)
    .order_by(cache_entries.c.create_time.desc())
    .offset(sa.bindparam("v_most"))
    .limit(1)
)

MOST_ENTRIES = 100_000
LONGEST_US = 30 * 24 * 3600 * 1_000_000
"""How many results are remembered, of all tenants together, and for how long at most."""


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
        row = await self._database.read(
            lambda connection: connection.execute(_LOOKUP, values).one_or_none(), brief=True
        )
        return None if row is None else CacheHit(*row)

    async def forget(self, cache_key: str) -> None:
        """Drops an entry whose assets are no longer published."""
        gone = sa.delete(cache_entries).where(cache_entries.c.cache_key == cache_key)
        await self._database.write(lambda connection: connection.execute(gone).rowcount)

    async def sweep(self, limit: int = 500, most: int = MOST_ENTRIES) -> int:
        """Drops up to `limit` entries, oldest first: too old or beyond the newest `most`; how many."""
        return await self._database.write(lambda connection: _sweep(connection, limit, most))


def _sweep(connection: sa.Connection, limit: int, most: int) -> int:
    aged: int = connection.execute(sa.select(now_us() - LONGEST_US)).scalar_one()
    beyond = connection.execute(_NEWEST_TOO_MANY, {"v_most": most}).scalar()
    old = _OLD.where(cache_entries.c.create_time <= max(aged, beyond or 0))
    gone = sa.delete(cache_entries).where(cache_entries.c.cache_key.in_(old))
    return connection.execute(gone, {"v_limit": limit}).rowcount
