"""Renditions in SQL, and the list of objects whose bytes are to be removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore, now_us
from services.storage.assets import Asset, Content
from services.storage.rows import CONTENT
from services.storage.store import OriginalGone, doom, lock_content
from services.storage.tables import DOOMED_OBJECTS, ORIGINALS, RENDITIONS

DOOMED_BATCH = 100


@dataclass(frozen=True)
class NewRendition:
    """A rendition that was just written: of which asset's content, by which spec, and what it is."""

    asset: Asset
    spec_key: str
    content: Content


class RenditionStore:
    """Rows of renditions; at most `kept` of one original."""

    def __init__(self, database: Database, kept: int) -> None:
        self._database = database
        self._kept = kept

    async def find(self, original_key: str, spec_key: str) -> Content | None:
        """The rendition made before, if there is one."""
        return await self._database.read(lambda c: _find(c, original_key, spec_key), brief=True)

    async def add(self, new: NewRendition) -> Content:
        """Keeps the rendition and returns it, or the one that somebody else made first; dooms what is too much.

        OriginalGone when the original was deleted meanwhile.
        """
        return await self._database.write(lambda c: self._add(c, new))

    async def doomed(self) -> list[str]:
        """Some of the objects to remove."""
        query = sa.select(DOOMED_OBJECTS.c.object_key).order_by(DOOMED_OBJECTS.c.create_us).limit(DOOMED_BATCH)
        return list(await self._database.read(lambda c: c.execute(query).scalars().all()))

    async def removed(self, object_keys: Iterable[str]) -> None:
        """Forgets doomed objects whose bytes are gone."""
        gone = sa.delete(DOOMED_OBJECTS).where(DOOMED_OBJECTS.c.object_key.in_(list(object_keys)))
        await self._database.write(lambda c: c.execute(gone))

    def _add(self, connection: sa.Connection, new: NewRendition) -> Content:
        original_key = new.asset.content.object_key
        lock_content(connection, new.asset.content.sha256)
        alive = connection.execute(sa.select(ORIGINALS.c.tenant).where(ORIGINALS.c.object_key == original_key))
        if alive.first() is None:
            raise OriginalGone
        inserted = insert_or_ignore(connection, RENDITIONS, _values(connection, original_key, new))
        if inserted:
            self._drop_oldest(connection, original_key)
        return _find(connection, original_key, new.spec_key) or new.content

    def _drop_oldest(self, connection: sa.Connection, original_key: str) -> None:
        mine = RENDITIONS.c.original_key == original_key
        newest_first = RENDITIONS.c.create_us.desc(), RENDITIONS.c.object_key
        query = sa.select(RENDITIONS.c.object_key).where(mine).order_by(*newest_first).offset(self._kept)
        excess = list(connection.execute(query).scalars())
        if excess:
            doom(connection, excess)
            connection.execute(sa.delete(RENDITIONS).where(RENDITIONS.c.object_key.in_(excess)))


def _find(connection: sa.Connection, original_key: str, spec_key: str) -> Content | None:
    query = sa.select(*(RENDITIONS.c[name] for name in CONTENT)).where(
        RENDITIONS.c.original_key == original_key, RENDITIONS.c.spec_key == spec_key
    )
    row = connection.execute(query).first()
    return Content(**row._mapping) if row is not None else None


def _values(connection: sa.Connection, original_key: str, new: NewRendition) -> dict[str, Any]:
    now = int(connection.execute(sa.select(now_us())).scalar_one())
    key = {"original_key": original_key, "spec_key": new.spec_key}
    return {**key, **asdict(new.content), "create_us": now}
