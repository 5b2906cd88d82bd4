"""Takedowns in SQL: the content's hashes are blocked and storage is ordered, in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mesh.db import insert_or_ignore
from mesh.errors import FailedPrecondition, NotFound
from mesh.ids import derived_id, new_id
from services.moderation import audit
from services.moderation.audit import AuditEntry
from services.moderation.peers.assets import AssetFacts
from services.moderation.perceptual import BlockedHash
from services.moderation.policy_changes import Who
from services.moderation.report_tables import TAKEDOWNS
from services.moderation.review_store import clock
from services.moderation.storage_orders import Kind, Order, add_order, withdraw_look_alikes
from services.moderation.store import block_hashes
from services.moderation.tables import BLOCKED_HASHES, BLOCKLIST_VERSION
from services.moderation.verdicts import Category

SOURCE = "takedown"
T = TAKEDOWNS.c


@dataclass(frozen=True, slots=True)
class Wish:
    """Why a picture is taken down, and whether its bytes must be kept."""

    reason: Category
    note: str = ""
    legal_hold: bool = False


@dataclass(frozen=True, slots=True)
class Takedown:
    """A picture that was made unservable. `standing` is its content's hash until it is undone."""

    takedown_id: str
    standing: str
    tenant: str
    asset_id: str
    sha256: str
    reason: Category
    note: str
    actor: str
    legal_hold: bool
    restored: bool
    create_us: int


def take_down(connection: sa.Connection, asset: AssetFacts, wish: Wish, who: Who) -> Takedown:
    """Blocks the content and orders storage to serve it no more; a content that is down already stays as it is."""
    takedown = Takedown(
        new_id("tkd"), asset.sha256, asset.tenant, asset.asset_id, asset.sha256,
        wish.reason, wish.note, who.actor, wish.legal_hold, False, clock(connection),
    )  # fmt: skip
    row = {name: getattr(takedown, name) for name in Takedown.__slots__} | {"reason": wish.reason.value}
    if not insert_or_ignore(connection, TAKEDOWNS, row):
        return _again(connection, asset, wish)
    exact = BlockedHash(derived_id("bhs", takedown.takedown_id), wish.reason, None, asset.sha256)
    block_hashes(connection, [exact], SOURCE)
    kinds = (Kind.TAKE_DOWN, *((Kind.HOLD,) if wish.legal_hold else ()), Kind.HASH)
    details = {Kind.TAKE_DOWN: wish.reason.value, Kind.HASH: takedown.takedown_id, Kind.HOLD: wish.reason.value}
    for kind in kinds:
        add_order(connection, Order(kind, asset.tenant, asset.asset_id, asset.sha256, details[kind]))
    return takedown


def restore(connection: sa.Connection, takedown_id: str, note: str, who: Who) -> Takedown:
    """Unblocks the content and orders storage to publish it again, once; FailedPrecondition when it is down again."""
    query = sa.select(TAKEDOWNS).where(T.takedown_id == takedown_id).with_for_update()
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"there is no takedown {takedown_id!r}", reason="TAKEDOWN_NOT_FOUND")
    takedown = _takedown(row)
    if takedown.restored and standing(connection, takedown.sha256) is not None:
        raise FailedPrecondition("the takedown was undone before, and the picture was taken down again")
    if takedown.restored:
        return takedown
    undone = {"restored": True, "standing": takedown_id}
    connection.execute(sa.update(TAKEDOWNS).where(T.takedown_id == takedown_id).values(**undone))
    _unblock(connection, takedown_id)
    withdraw_look_alikes(connection, takedown.sha256)
    add_order(connection, Order(Kind.RESTORE, takedown.tenant, takedown.asset_id, takedown.sha256))
    restored = _takedown({**row, **undone})
    record(connection, restored, who, f"restored: {note}")
    return restored


def standing(connection: sa.Connection, sha256: str) -> Takedown | None:
    """The takedown that stands over the content."""
    row = connection.execute(sa.select(TAKEDOWNS).where(T.standing == sha256)).mappings().first()
    return None if row is None else _takedown(row)


def block_look_alikes(connection: sa.Connection, takedown_id: str, phash: int) -> None:
    """Adds the picture's perceptual hash while its takedown stands."""
    query = sa.select(T.reason, T.sha256).where(T.takedown_id == takedown_id, T.restored.is_(False)).with_for_update()
    row = connection.execute(query).first()
    if row is not None:
        entry = BlockedHash(derived_id("bhs", takedown_id, "look-alikes"), Category(row.reason), phash)
        block_hashes(connection, [entry], SOURCE)


def mark_hold(connection: sa.Connection, asset_id: str, held: bool) -> None:
    """A takedown tells whether its picture is held."""
    connection.execute(sa.update(TAKEDOWNS).where(T.asset_id == asset_id).values(legal_hold=held))


def record(connection: sa.Connection, takedown: Takedown, who: Who, note: str) -> None:
    """Puts it on record; call it last."""
    entry = AuditEntry(
        action="TAKEDOWN",
        tenant=takedown.tenant,
        actor=who.actor,
        trace_id=who.trace_id,
        decision="ALLOW" if takedown.restored else "BLOCK",
        scores=((takedown.reason.value, 1.0, "BLOCK"),),
        sha256=takedown.sha256,
        asset_id=takedown.asset_id,
        note=note,
    )
    audit.record(connection, entry)


def _again(connection: sa.Connection, asset: AssetFacts, wish: Wish) -> Takedown:
    """What stands is what holds; only a hold may be new."""
    query = sa.select(TAKEDOWNS).where(T.standing == asset.sha256).with_for_update()
    row = connection.execute(query).mappings().one()
    if wish.legal_hold and not row["legal_hold"]:
        connection.execute(sa.update(TAKEDOWNS).where(T.standing == asset.sha256).values(legal_hold=True))
        add_order(connection, Order(Kind.HOLD, asset.tenant, asset.asset_id, asset.sha256, wish.reason.value))
    return _takedown({**row, "legal_hold": wish.legal_hold or row["legal_hold"]})


def _unblock(connection: sa.Connection, takedown_id: str) -> None:
    ours = [derived_id("bhs", takedown_id), derived_id("bhs", takedown_id, "look-alikes")]
    connection.execute(sa.delete(BLOCKED_HASHES).where(BLOCKED_HASHES.c.hash_id.in_(ours)))
    connection.execute(sa.update(BLOCKLIST_VERSION).values(version=BLOCKLIST_VERSION.c.version + 1))


def _takedown(row: sa.RowMapping | dict[str, object]) -> Takedown:
    return Takedown(**{**row, "reason": Category(row["reason"])})  # type: ignore[arg-type]  # column names
