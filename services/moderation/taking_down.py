"""Taking pictures down, restoring and holding them, and taking reports of them: decided here, done by storage."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from mesh.db import Database
from mesh.errors import NotFound
from mesh.outbox import append
from mesh.telemetry import current
from services.moderation import audit, report_store, takedown_store, wire_events
from services.moderation.audit import AuditEntry
from services.moderation.closing import end_upheld, put_on_record
from services.moderation.image_pipeline import ImagePipeline
from services.moderation.peers.assets import AssetFacts, Assets
from services.moderation.policy_changes import Who
from services.moderation.report_store import Complaint, Report
from services.moderation.review_store import open_review
from services.moderation.reviews import Ruling
from services.moderation.storage_orders import Kind, Order, StorageOrders, add_order, withdraw_holds
from services.moderation.tables import OUTBOX
from services.moderation.takedown_store import Takedown, Wish
from services.moderation.verdicts import Decision


class TakingDown:
    """What reviewers, operators and reporters want done with published pictures."""

    def __init__(self, database: Database, assets: Assets, orders: StorageOrders) -> None:
        self._database = database
        self._assets = assets
        self._orders = orders

    async def take_down(self, asset_id: str, wish: Wish, who: Who) -> Takedown:
        """The picture and all with the same bytes are unservable when this returns; see TakeDownAsset."""
        asset = await self._assets.get(asset_id, "")
        takedown = await self._database.write(lambda c: _take_down(c, asset, wish, who))
        await self._orders.carry_out(asset.sha256)
        return takedown

    async def restore(self, takedown_id: str, note: str, who: Who) -> Takedown:
        """Undoes a takedown; see RestoreAsset."""
        takedown = await self._database.write(lambda c: takedown_store.restore(c, takedown_id, note, who))
        await self._orders.carry_out(takedown.sha256)
        return takedown

    async def hold(self, asset_id: str, until_us: int | None, note: str, who: Who) -> None:
        """Holds the picture until then (0: until it is ended), or ends that with None; see SetLegalHold."""
        asset = await self._assets.get(asset_id, "")
        await self._database.write(lambda c: _hold(c, asset, until_us, note, who))
        await self._orders.carry_out(asset.sha256)

    async def report(self, asset: AssetFacts, complaint: Complaint, who: Who) -> Report:
        """Takes a report of a published picture; see ReportAsset."""
        if asset.state != "PUBLISHED":
            raise NotFound("the picture is not published", reason="ASSET_NOT_FOUND")
        return await self._database.write(lambda c: _report(c, asset, complaint, who))

    async def find(self, asset_id: str, url: str, tenant: str) -> AssetFacts:
        """The tenant's picture by its id, or else by its address."""
        return await (self._assets.get(asset_id, tenant) if asset_id else self._assets.resolve(url, tenant))


class LookAlikes:
    """Blocks what looks like a picture that was taken down, in all eight orientations."""

    def __init__(self, database: Database, assets: Assets, pictures: ImagePipeline) -> None:
        self._database = database
        self._assets = assets
        self._pictures = pictures

    async def block(self, order: Order) -> None:
        """Reads the picture and adds its perceptual hash; one without a comparable hash is blocked by its bytes only.

        One hash does: a picture is looked up in its eight orientations.
        """
        async with self._pictures.slot():
            data = await self._assets.read(order.asset_id, order.tenant)
            seen = await self._pictures.inspect(data)
        if seen.fingerprint.comparable:
            phash = seen.fingerprint.hashes[0]
            await self._database.write(lambda c: takedown_store.block_look_alikes(c, order.detail, phash))


def _take_down(connection: sa.Connection, asset: AssetFacts, wish: Wish, who: Who) -> Takedown:
    ruling = Ruling(Decision.BLOCK, wish.reason, wish.note)
    ended = end_upheld(connection, report_store.uphold(connection, asset.sha256), ruling, who)
    takedown = takedown_store.take_down(connection, asset, wish, who)
    for review in ended:
        put_on_record(connection, review, who, asset.sha256)
    takedown_store.record(connection, takedown, who, wish.note)
    return takedown


def _hold(connection: sa.Connection, asset: AssetFacts, until_us: int | None, note: str, who: Who) -> None:
    withdraw_holds(connection, asset.asset_id)
    order = Order(Kind.LIFT if until_us is None else Kind.HOLD, asset.tenant, asset.asset_id, asset.sha256, note)
    add_order(connection, order)
    if until_us:
        add_order(connection, replace(order, kind=Kind.LIFT, due_us=until_us))
    takedown_store.mark_hold(connection, asset.asset_id, until_us is not None)
    entry = AuditEntry(
        action="LEGAL_HOLD",
        tenant=asset.tenant,
        actor=who.actor,
        trace_id=who.trace_id,
        sha256=asset.sha256,
        asset_id=asset.asset_id,
        note=f"{'ended' if until_us is None else 'set'}: {note}",
    )
    audit.record(connection, entry)


def _report(connection: sa.Connection, asset: AssetFacts, complaint: Complaint, who: Who) -> Report:
    report = report_store.add(connection, asset, complaint)
    opened = open_review(connection, report_store.review_of_report(report, asset))
    if opened is not None:
        append(connection, OUTBOX, wire_events.review_requested(opened, current()))
    report_store.put_on_record(connection, report, complaint, who)
    return report
