"""The life of originals: taken in, judged, let out, withdrawn, deleted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from uuid import uuid4

from mesh import imaging
from mesh.errors import DataLoss, invalid
from mesh.ids import new_id
from services.storage import assets
from services.storage.assets import (
    FORMATS,
    Asset,
    Content,
    Decision,
    Kind,
    NewAsset,
    Piece,
    Provenance,
    Put,
    Withdrawal,
)
from services.storage.config import Limits
from services.storage.objects.base import ObjectStore
from services.storage.receiving import Intake, Memory, Received
from services.storage.store import Announce, AssetStore, OriginalGone
from services.storage.verdicts import KnownVerdicts, require

PLAIN_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Archive:
    """Originals of every tenant, over a store of rows and a store of objects."""

    def __init__(self, store: AssetStore, objects: ObjectStore, verdicts: KnownVerdicts, limits: Limits) -> None:
        self._store = store
        self._objects = objects
        self._verdicts = verdicts
        self._limits = limits
        self._memory = Memory(limits.receiving)

    async def put(self, put: Put, pieces: AsyncIterator[Piece]) -> Asset:
        """Takes in one original, QUARANTINED; an id that exists keeps its first bytes and gives that asset."""
        with Intake(self._memory, self._limits) as intake:
            received = await intake.take(pieces)
            await self._check(put, received)
            new = NewAsset(put.asset_id or new_id("ast"), put.tenant, put.kind, put.provenance, put.epoch)
            while True:
                try:
                    return await self._keep(new, received)
                except OriginalGone:  # deleted between our look and our row; the next round writes the bytes again
                    continue

    async def copy(self, source_id: str, new: NewAsset) -> tuple[Asset, Asset]:
        """A new QUARANTINED row over the bytes of a PUBLISHED asset; returns source and copy."""
        source = await self._store.get(source_id, new.tenant)
        drawn = _inherited(source, new.provenance)
        copied = replace(new, asset_id=new.asset_id or new_id("ast"), kind=source.kind, provenance=drawn)
        return await self._store.copy(source_id, copied)

    async def read(self, content: Content, offset: int, length: int) -> bytes:
        """The `length` bytes of an original or a rendition from `offset`, which lie within it.

        DataLoss when the object is shorter than its row says: its readers would wait for the rest for ever.
        """
        data = await self._objects.read(content.object_key, offset, length)
        if len(data) != length:
            raise DataLoss(f"object {content.object_key} is shorter than it was", reason="INTERNAL")
        return data

    async def publish(self, tenant: str, decision: Decision, announce: Announce) -> Asset:
        """Lets the tenant's asset out if moderation's verdict allows these very bytes and their hash is not blocked."""
        verdict = await self._verdicts.of(decision, tenant)

        def let_out(asset: Asset, blocked: bool) -> Asset:
            require(verdict, decision.verdict_id, asset.content.sha256)
            return assets.publish(asset, decision, blocked)

        return await self._store.change(decision.asset_id, tenant, let_out, announce)

    async def block(self, tenant: str, decision: Decision, announce: Announce) -> Asset:
        """Refuses the asset."""
        return await self._store.change(decision.asset_id, tenant, lambda a, _: assets.block(a, decision), announce)

    async def withdraw(self, asset: Asset, reason: str, announce: Announce) -> Asset:
        """Takes one asset out of service."""
        return await self._store.change(asset.asset_id, asset.tenant, _withdraw, announce, reason)

    async def hold(self, asset: Asset, held: bool, announce: Announce) -> Asset:
        """Sets or lifts the legal hold."""
        return await self._store.change(asset.asset_id, asset.tenant, lambda a, _: assets.hold(a, held), announce)

    async def delete(self, asset: Asset, announce: Announce, swept: Callable[[], None]) -> Asset:
        """Purges the asset; `swept` is called to have unshared bytes removed soon."""
        purged = await self._store.change(asset.asset_id, asset.tenant, lambda a, _: assets.purge(a), announce)
        swept()
        return purged

    async def _check(self, put: Put, received: Received) -> None:
        stated = FORMATS[received.info.format]
        if put.media_type and put.media_type != stated:
            raise invalid("header.media_type", f"the bytes are {stated}")
        if put.kind is Kind.INPUT:  # outputs are decoded whole by moderation before anything lets them out
            await imaging.decode_check(received.data)

    async def _keep(self, new: NewAsset, received: Received) -> Asset:
        known = await self._store.known(new.asset_id, new.tenant, received.sha256)
        info = received.info
        key = known.object_key or original_key(new.tenant, received.sha256)
        content = Content(received.sha256, key, info.width, info.height, info.format, info.size)
        if known.asset is not None or known.object_key is not None:
            return await self._store.add(new, content, written=False)
        await self._objects.put(key, received.data)
        added = await self._store.add(new, content, written=True)
        if added.content.object_key != key:  # somebody stored the same first
            await self._objects.delete(key)
        return added


def _withdraw(asset: Asset, _blocked: bool) -> Asset:
    return assets.withdraw(asset, Withdrawal.ASSET)


def original_key(tenant: str, sha256: str) -> str:
    """A new object key for this content; never the same twice, so that a late deletion never hits new bytes."""
    folder = tenant if PLAIN_TENANT.fullmatch(tenant) else "h-" + hashlib.sha256(tenant.encode()).hexdigest()[:40]
    return f"{folder}/{sha256[:2]}/{sha256}.{uuid4().hex[:12]}"


def _inherited(source: Asset, own: Provenance) -> Provenance:
    """The copy's story: its own job, and how the source was drawn wherever it says nothing itself."""
    drawn = source.provenance
    return Provenance(
        job_id=own.job_id,
        attempt_id=own.attempt_id,
        index=own.index,
        provider=own.provider or drawn.provider,
        model=own.model or drawn.model,
        model_version=own.model_version or drawn.model_version,
        provider_request_id=own.provider_request_id or drawn.provider_request_id,
        prompt_hash=own.prompt_hash or drawn.prompt_hash,
        seed=drawn.seed if own.seed is None else own.seed,
        steps=drawn.steps if own.steps is None else own.steps,
        guidance=drawn.guidance if own.guidance is None else own.guidance,
        source_asset_id=source.asset_id,
    )
