"""What storage must do because of a decision here.

An order is written with the decision, in one transaction; it is carried out at once by whoever decided, and repeated by
every process until storage has done it. Orders about the same content are carried out one after another, by one process
at a time; all of them may be repeated. What lets a single asset out and what looks for look-alikes may have to wait
long, and holds up nothing: storage lets out nothing whose hash is blocked, and look-alikes are blocked only while a
takedown stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from mesh.db import Database, now_us
from mesh.errors import DataLoss, DeadlineExceeded, Internal, MeshError, ResourceExhausted, Unavailable
from mesh.telemetry import logger
from services.moderation.peers.assets import Assets
from services.moderation.report_tables import STORAGE_ORDERS

POLL_S = 1.0
PAUSE_S = 2.0  # before an order that failed is tried again
CLAIM_S = 60  # longer than any order takes
PATIENCE_S = 15.0  # how long a decision waits for storage
TURN_S = 0.02  # between two looks at an order that another process carries out
PASSING = (Unavailable, DeadlineExceeded, ResourceExhausted, Internal, DataLoss)

log = logger(__name__)
O = STORAGE_ORDERS.c  # noqa: E741 - the columns of orders
_OLDER = STORAGE_ORDERS.alias("older")


class Kind(StrEnum):
    """What is to be done."""

    TAKE_DOWN = "TAKE_DOWN"
    HASH = "HASH"
    RESTORE = "RESTORE"
    PUBLISH = "PUBLISH"
    HOLD = "HOLD"
    LIFT = "LIFT"


@dataclass(frozen=True, slots=True)
class Order:
    """One order. detail: a reason, a verdict's id, or a takedown's. due_us: not before; 0 is now."""

    kind: Kind
    tenant: str
    asset_id: str
    sha256: str
    detail: str = ""
    due_us: int = 0
    sequence: int = 0


HOLDS_UP_NOTHING = (Kind.PUBLISH.value, Kind.HASH.value)

LookAlike = Callable[[Order], Awaitable[None]]
"""Blocks what looks like the order's picture."""


class StorageOrders:
    """Carries orders out."""

    def __init__(self, database: Database, assets: Assets, look_alike: LookAlike) -> None:
        self._database = database
        self._assets = assets
        self._steps: Mapping[Kind, Callable[[Order], Awaitable[object]]] = {
            Kind.TAKE_DOWN: lambda order: assets.take_down(order.sha256, order.detail),
            Kind.HASH: look_alike,
            Kind.RESTORE: lambda order: assets.restore(order.sha256),
            Kind.PUBLISH: self._publish,
            Kind.HOLD: lambda order: assets.hold(order.asset_id, order.tenant, True, order.detail),
            Kind.LIFT: lambda order: assets.hold(order.asset_id, order.tenant, False, order.detail),
        }

    async def carry_out(self, sha256: str, *, publishing: bool = False) -> None:
        """Everything that is due about the content; Unavailable when storage does not do it now.

        publishing: also what lets single assets out, which others may have ordered.
        """
        which = O.sha256 == sha256 if publishing else sa.and_(O.sha256 == sha256, O.kind != Kind.PUBLISH.value)
        hurried = False
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await self._database.read(lambda c: _left(c, which)):
                    if await self._next(which):
                        continue
                    if not hurried:
                        hurried = True
                        await self._hurry(sha256)
                    await asyncio.sleep(TURN_S)
        except (*PASSING, TimeoutError) as error:
            text = "it is stored; storage does not answer, and is told as soon as it does"
            raise Unavailable(text, metadata={"peer": "storage"}, retry_after=PAUSE_S) from error

    async def run(self) -> None:
        """Carries out for ever what others left."""
        while True:
            try:
                while await self._next(sa.true()):
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the orders are kept and the next turn may work
                log.warning("an order waits for storage", error=type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def _hurry(self, sha256: str) -> None:
        """A takedown waits behind what another process has begun, or died over: storage is told now, and again then."""
        order = await self._database.read(lambda c: _waiting_takedown(c, sha256))
        if order is not None:
            await self._assets.take_down(*order)

    async def _next(self, which: sa.ColumnElement[bool]) -> bool:
        """Carries out the next of these orders; False when there is none to be had."""
        order = await self._database.write(lambda c: _claim(c, which))
        if order is None:
            return False
        try:
            await self._steps[order.kind](order)
        except PASSING:
            await self._database.write(lambda c: _put_back(c, order))
            raise
        except MeshError as error:  # it can never be done: the asset is gone, or purged
            log.warning("an order is dropped", kind=order.kind.value, asset_id=order.asset_id, reason=error.reason)
        await self._database.write(lambda c: c.execute(sa.delete(STORAGE_ORDERS).where(O.sequence == order.sequence)))
        return True

    async def _publish(self, order: Order) -> None:
        """Lets the asset out; one whose refusal is still on its way to storage has to wait for that."""
        if order.asset_id in await self._assets.restore(order.sha256, order.asset_id, order.detail):
            return
        asset = await self._assets.get(order.asset_id, order.tenant)
        if (asset.state, asset.kind) == ("QUARANTINED", "OUTPUT"):
            raise Unavailable("the asset is not refused yet")


def add_order(connection: sa.Connection, order: Order) -> None:
    """Writes the order in the running transaction."""
    row = {name: getattr(order, name) for name in ("tenant", "asset_id", "sha256", "due_us")}
    row |= {"kind": order.kind.value, "detail": order.detail[:256], "claim_us": 0}
    connection.execute(sa.insert(STORAGE_ORDERS), row)


def withdraw_holds(connection: sa.Connection, asset_id: str) -> None:
    """A newer order about the asset's hold takes the place of those that nobody has begun."""
    mine = (O.asset_id == asset_id, O.kind.in_([Kind.HOLD.value, Kind.LIFT.value]), O.claim_us <= now_us())
    connection.execute(sa.delete(STORAGE_ORDERS).where(*mine))


def withdraw_look_alikes(connection: sa.Connection, sha256: str) -> None:
    """Nobody need look for them any more: what has begun finds that its takedown was undone."""
    connection.execute(sa.delete(STORAGE_ORDERS).where(O.sha256 == sha256, O.kind == Kind.HASH.value))


def _left(connection: sa.Connection, which: sa.ColumnElement[bool]) -> bool:
    return connection.execute(sa.select(O.sequence).where(which, O.due_us <= now_us()).limit(1)).first() is not None


def _waiting_takedown(connection: sa.Connection, sha256: str) -> tuple[str, str] | None:
    """The content and why it is taken down, where nobody has begun with that."""
    mine = (O.sha256 == sha256, O.kind == Kind.TAKE_DOWN.value, O.claim_us <= now_us())
    row = connection.execute(sa.select(O.sha256, O.detail).where(*mine).limit(1)).first()
    return None if row is None else (str(row[0]), str(row[1]))


def _claim(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Order | None:
    """The first of those that were not tried yet, then the one that was tried longest ago: none holds up the others."""
    now = int(connection.execute(sa.select(now_us())).scalar_one())
    older = (
        _OLDER.c.sha256 == O.sha256,
        _OLDER.c.sequence < O.sequence,
        _OLDER.c.due_us <= now,
        _OLDER.c.kind.not_in(HOLDS_UP_NOTHING),
    )
    first = ~sa.exists(sa.select(_OLDER.c.sequence).where(*older))
    query = sa.select(STORAGE_ORDERS).where(which, O.due_us <= now, O.claim_us <= now, first)
    query = query.order_by(O.claim_us, O.sequence).limit(1)
    row = connection.execute(query.with_for_update(skip_locked=True, of=STORAGE_ORDERS)).mappings().first()
    if row is None:
        return None
    claimed = sa.update(STORAGE_ORDERS).where(O.sequence == row["sequence"])
    connection.execute(claimed.values(claim_us=now + CLAIM_S * 1_000_000))
    values = {name: row[name] for name in ("tenant", "asset_id", "sha256", "detail", "due_us", "sequence")}
    return Order(Kind(row["kind"]), **values)


def _put_back(connection: sa.Connection, order: Order) -> None:
    """For a while: the claim ends soon."""
    pause = int(PAUSE_S * 1_000_000)
    connection.execute(sa.update(STORAGE_ORDERS).where(O.sequence == order.sequence).values(claim_us=now_us() + pause))
