"""Assets in SQL. Every change of what is published takes a lock on the content, so that a takedown misses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import sqlalchemy as sa

from mesh.db import Database, insert_or_ignore, now_us
from mesh.errors import FailedPrecondition
from mesh.events import Event
from mesh.outbox import append
from services.storage import assets
from services.storage.assets import Asset, Content, Filter, NewAsset, State, Withdrawal
from services.storage.rows import asset_of, asset_values
from services.storage.tables import ASSETS, BLOCKED_HASHES, DOOMED_OBJECTS, ORIGINALS, OUTBOX, RENDITIONS

T = TypeVar("T")
FEW = 50  # rows that are read in about a millisecond
CHANGING = ("state", "verdict_id", "hold", "withdrawn", "version", "update_us", "publish_us")

# Built once: putting a statement together costs more than running it.
NOW = sa.select(now_us())
ASSET_BY_ID = sa.select(ASSETS).where(ASSETS.c.asset_id == sa.bindparam("wanted"))
ASSETS_BY_IDS = sa.select(ASSETS).where(ASSETS.c.asset_id.in_(sa.bindparam("wanted", expanding=True)))
SAVE = (
    sa.update(ASSETS)
    .where(ASSETS.c.asset_id == sa.bindparam("wanted"))
    .values({name: sa.bindparam(f"new_{name}") for name in CHANGING})
)
KEY_BY_CONTENT = sa.select(ORIGINALS.c.object_key).where(
    ORIGINALS.c.tenant == sa.bindparam("whose"), ORIGINALS.c.sha256 == sa.bindparam("what")
)
ADD_ORIGINAL = sa.insert(ORIGINALS)
BLOCKED_BY_HASH = sa.select(BLOCKED_HASHES.c.sha256).where(BLOCKED_HASHES.c.sha256 == sa.bindparam("what"))

Move = Callable[[Asset, bool], Asset]
"""What becomes of an asset, given whether its content is blocked; raises a MeshError to refuse."""

Announce = Callable[[Asset, str], Event]
"""The event that tells of an asset's new state, with the reason given for it."""


class OriginalGone(Exception):
    """The stored object that a new row was to share has been deleted meanwhile; begin again."""


@dataclass(frozen=True)
class Known:
    """What is stored already: the asset of that id, and the object key of that content."""

    asset: Asset | None
    object_key: str | None


class AssetStore:
    """Rows of assets. A `tenant` of "" stands for an internal caller who sees all of them."""

    def __init__(self, database: Database, wrote_event: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._wrote_event = wrote_event

    async def get(self, asset_id: str, tenant: str) -> Asset:
        """The asset; NotFound when there is none or it is another tenant's."""
        return await self._database.read(lambda c: _of_tenant(c, asset_id, tenant), brief=True)

    async def get_many(self, asset_ids: Iterable[str], tenant: str) -> dict[str, Asset]:
        """Those of the assets that exist and are the tenant's, by id."""
        wanted = {"wanted": sorted(set(asset_ids))}
        brief = len(wanted["wanted"]) <= FEW
        rows = await self._database.read(lambda c: c.execute(ASSETS_BY_IDS, wanted).all(), brief=brief)
        return {row.asset_id: asset_of(row) for row in rows if tenant in ("", row.tenant)}

    async def known(self, asset_id: str, tenant: str, sha256: str) -> Known:
        """What a put would meet."""
        return await self._database.read(
            lambda c: Known(_find(c, asset_id), _object_key(c, tenant, sha256)), brief=True
        )

    async def add(self, new: NewAsset, content: Content, *, written: bool) -> Asset:
        """Makes the row, or returns the one that has its id.

        `written` says that `content.object_key` was just written; the row returned may point to another object with
        the same bytes if somebody was faster. Without it the object must still be known, else OriginalGone.
        """
        return await self._database.write(lambda c: _add(c, new, content, written), brief=True)

    async def copy(self, source_id: str, new: NewAsset) -> tuple[Asset, Asset]:
        """Makes a row over the bytes of a PUBLISHED asset of the same tenant; returns source and copy."""
        return await self._database.write(lambda c: _copy(c, source_id, new), brief=True)

    async def change(self, asset_id: str, tenant: str, move: Move, announce: Announce, reason: str = "") -> Asset:
        """Moves one asset and tells of it, in one transaction; NotFound as for `get`."""

        def write(connection: sa.Connection) -> Asset:
            present = _locked(connection, asset_id, tenant)
            moved = move(present, _is_blocked(connection, present.content.sha256))
            return _save(connection, present, moved, lambda changed: announce(changed, reason))

        return await self._announcing(write, brief=True)

    async def take_down(self, sha256: str, reason: str, announce: Announce) -> list[str]:
        """Blocks the hash and withdraws every published asset with it; the ids of those withdrawn."""

        def write(connection: sa.Connection) -> list[str]:
            lock_content(connection, sha256)
            blocked = {"sha256": sha256, "reason": reason, "create_us": _now(connection)}
            insert_or_ignore(connection, BLOCKED_HASHES, blocked)
            return _move_all(connection, sha256, _take_down, lambda changed: announce(changed, reason))

        return await self._announcing(write)

    async def restore(self, sha256: str, asset_id: str, verdict_id: str, announce: Announce) -> list[str]:
        """Unblocks the hash and lets out what a takedown withdrew, or just `asset_id` even if it was BLOCKED.

        One asset alone is not let out while its hash is blocked: a takedown stands over all of the content.
        """

        def let_out(asset: Asset) -> Asset:
            meant = asset.asset_id == asset_id if asset_id else asset.withdrawn is Withdrawal.CONTENT
            return assets.restore(asset, verdict_id) if meant else asset

        def write(connection: sa.Connection) -> list[str]:
            lock_content(connection, sha256)
            if asset_id and _is_blocked(connection, sha256):
                raise FailedPrecondition("the content's hash is blocked", reason="CONTENT_BLOCKED")
            connection.execute(sa.delete(BLOCKED_HASHES).where(BLOCKED_HASHES.c.sha256 == sha256))
            return _move_all(connection, sha256, let_out, lambda changed: announce(changed, ""))

        return await self._announcing(write)

    async def page(self, wanted: Filter, after: tuple[int, str] | None, size: int) -> list[Asset]:
        """Up to `size` assets, newest first, behind the position (create_us, asset_id)."""
        query = sa.select(ASSETS).where(*_conditions(wanted))
        if after is not None:
            position = sa.tuple_(sa.literal(after[0], sa.BigInteger), sa.literal(after[1]))
            query = query.where(sa.tuple_(ASSETS.c.create_us, ASSETS.c.asset_id) < position)
        query = query.order_by(ASSETS.c.create_us.desc(), ASSETS.c.asset_id.desc()).limit(size)
        return [asset_of(row) for row in await self._database.read(lambda c: c.execute(query).all())]

    async def _announcing(self, write: Callable[[sa.Connection], T], *, brief: bool = False) -> T:
        result = await self._database.write(write, brief=brief)
        self._wrote_event()
        return result


def lock_content(connection: sa.Connection, sha256: str) -> bool:
    """Until the end of the transaction nobody else changes rows of this content; what was read before is to be read
    again where it answers True (SQLite has one writer anyway)."""
    if connection.dialect.name != "postgresql":
        return False
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(int(sha256[:15], 16), sa.BigInteger))))
    return True


def _locked(connection: sa.Connection, asset_id: str, tenant: str) -> Asset:
    found = _of_tenant(connection, asset_id, tenant)
    again = lock_content(connection, found.content.sha256)
    return _of_tenant(connection, asset_id, tenant) if again else found


def _of_tenant(connection: sa.Connection, asset_id: str, tenant: str) -> Asset:
    found = _find(connection, asset_id)
    if found is None or tenant not in ("", found.tenant):
        raise assets.not_found(asset_id)
    return found


def doom(connection: sa.Connection, object_keys: Iterable[str]) -> None:
    """Notes objects whose bytes are to be removed."""
    now = _now(connection)
    for key in object_keys:
        insert_or_ignore(connection, DOOMED_OBJECTS, {"object_key": key, "create_us": now})


def _add(connection: sa.Connection, new: NewAsset, content: Content, written: bool) -> Asset:
    lock_content(connection, content.sha256)
    stored_key = _object_key(connection, new.tenant, content.sha256)
    if stored_key is None and not written:
        if _find(connection, new.asset_id) is None:
            raise OriginalGone
        return _first(connection, new)
    added = _insert(connection, new, replace(content, object_key=stored_key or content.object_key))
    if added is None:
        return _first(connection, new)
    if stored_key is None:
        values = {"tenant": new.tenant, "sha256": content.sha256, "object_key": content.object_key}
        connection.execute(ADD_ORIGINAL, values)
    return added


def _copy(connection: sa.Connection, source_id: str, new: NewAsset) -> tuple[Asset, Asset]:
    source = _find(connection, source_id)
    if source is None or source.tenant != new.tenant:
        raise assets.not_found(source_id)
    lock_content(connection, source.content.sha256)
    if _find(connection, new.asset_id) is not None:
        return source, _first(connection, new)
    source = assets.readable(_find(connection, source_id) or source, published_only=True)
    if _is_blocked(connection, source.content.sha256):
        raise FailedPrecondition("the content's hash is blocked", reason="CONTENT_BLOCKED")
    added = _insert(connection, new, source.content)
    return source, added or _first(connection, new)


def _insert(connection: sa.Connection, new: NewAsset, content: Content) -> Asset | None:
    now = _now(connection)
    asset = Asset(
        new.asset_id, new.tenant, new.kind, content, new.provenance, epoch=new.epoch, create_us=now, update_us=now
    )
    return asset if insert_or_ignore(connection, ASSETS, asset_values(asset)) else None


def _first(connection: sa.Connection, new: NewAsset) -> Asset:
    """The asset that has the id already; a later lease makes it its own."""
    present = _find(connection, new.asset_id)
    if present is None or present.tenant != new.tenant:
        raise FailedPrecondition(f"asset id {new.asset_id} is taken")
    if new.epoch <= present.epoch:
        return present
    connection.execute(sa.update(ASSETS).where(ASSETS.c.asset_id == new.asset_id).values(epoch=new.epoch))
    return replace(present, epoch=new.epoch)


def _take_down(asset: Asset) -> Asset:
    return assets.withdraw(asset, Withdrawal.CONTENT)


def _move_all(
    connection: sa.Connection, sha256: str, move: Callable[[Asset], Asset], announce: Callable[[Asset], Event]
) -> list[str]:
    rows = connection.execute(sa.select(ASSETS).where(ASSETS.c.sha256 == sha256)).all()
    moved = []
    for before in map(asset_of, rows):
        after = move(before)
        if after is not before:
            moved.append(_save(connection, before, after, announce).asset_id)
    return sorted(moved)


def _save(connection: sa.Connection, before: Asset, after: Asset, announce: Callable[[Asset], Event]) -> Asset:
    if after == before:
        return before
    now = _now(connection)
    published = after.state is State.PUBLISHED and before.state is not State.PUBLISHED
    saved = replace(
        after, version=before.version + 1, update_us=now, publish_us=now if published else before.publish_us
    )
    changed = {f"new_{name}": getattr(saved, name) for name in CHANGING}
    connection.execute(SAVE, {"wanted": saved.asset_id, **changed})
    if published or (saved.state is State.TAKEN_DOWN and before.state is State.PUBLISHED):
        append(connection, OUTBOX, announce(saved))
    if saved.state is State.PURGED:
        _release(connection, saved)
    return saved


def _release(connection: sa.Connection, purged: Asset) -> None:
    """Dooms the bytes and renditions of a purged asset unless another row of the tenant shares them."""
    same = (ASSETS.c.sha256 == purged.content.sha256) & (ASSETS.c.tenant == purged.tenant)
    if connection.execute(sa.select(ASSETS.c.asset_id).where(same, ASSETS.c.state != State.PURGED).limit(1)).first():
        return
    key = purged.content.object_key
    derived = connection.execute(sa.select(RENDITIONS.c.object_key).where(RENDITIONS.c.original_key == key)).scalars()
    doom(connection, [key, *derived.all()])
    connection.execute(sa.delete(RENDITIONS).where(RENDITIONS.c.original_key == key))
    connection.execute(sa.delete(ORIGINALS).where(ORIGINALS.c.object_key == key))


def _find(connection: sa.Connection, asset_id: str) -> Asset | None:
    row = connection.execute(ASSET_BY_ID, {"wanted": asset_id}).first()
    return asset_of(row) if row is not None else None


def _object_key(connection: sa.Connection, tenant: str, sha256: str) -> str | None:
    return connection.execute(KEY_BY_CONTENT, {"whose": tenant, "what": sha256}).scalar()


def _is_blocked(connection: sa.Connection, sha256: str) -> bool:
    return connection.execute(BLOCKED_BY_HASH, {"what": sha256}).first() is not None


def _now(connection: sa.Connection) -> int:
    return int(connection.execute(NOW).scalar_one())


def _conditions(wanted: Filter) -> list[sa.ColumnElement[bool]]:
    state = ASSETS.c.state != State.PURGED if wanted.state is None else ASSETS.c.state == wanted.state
    conditions = [state, *([ASSETS.c.tenant == wanted.tenant] if wanted.tenant else [])]
    if wanted.kind is not None:
        conditions.append(ASSETS.c.kind == wanted.kind)
    if wanted.job_id:
        conditions.append(ASSETS.c.job_id == wanted.job_id)
    if wanted.from_us is not None:
        conditions.append(ASSETS.c.create_us >= wanted.from_us)
    if wanted.until_us is not None:
        conditions.append(ASSETS.c.create_us < wanted.until_us)
    return conditions
