"""Making each rendition at most once, and keeping it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from uuid import uuid4

from mesh.errors import ResourceExhausted
from mesh.telemetry import span
from mesh.validation import refuse
from services.storage.assets import Asset, Content, not_found
from services.storage.config import RenditionLimits
from services.storage.objects.base import ObjectStore
from services.storage.rendition_store import NewRendition, RenditionStore
from services.storage.renditions import Order, Spec, order_for, violations
from services.storage.store import OriginalGone
from services.storage.transcode import Made, transcode


class Renditions:
    """Finds renditions, or makes and keeps them. `close` waits for what is being made."""

    def __init__(self, store: RenditionStore, objects: ObjectStore, limits: RenditionLimits) -> None:
        self._store = store
        self._objects = objects
        self._most = limits.threads + limits.waiting
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="transcode")
        self._slots = asyncio.Semaphore(limits.threads)  # originals in memory; those that wait hold none
        self._making: dict[tuple[str, str], asyncio.Task[Content]] = {}

    async def get(self, asset: Asset, spec: Spec) -> Content:
        """The asset's rendition, made now if it never was. NotFound when the asset is deleted meanwhile."""
        refuse(violations(spec))
        order = order_for(asset, spec)
        found = await self._store.find(asset.content.object_key, order.key)
        if found is not None:
            return found
        return await asyncio.shield(self._made_once(asset, order))

    async def close(self) -> None:
        """Lets running work end; nothing may be asked for afterwards."""
        await asyncio.gather(*self._making.values(), return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    def _made_once(self, asset: Asset, order: Order) -> asyncio.Task[Content]:
        """The one task that makes this rendition, however many ask for it."""
        key = (asset.content.object_key, order.key)
        running = self._making.get(key)
        if running is None:
            if len(self._making) >= self._most:
                raise ResourceExhausted("too many renditions are being made", retry_after=1.0)
            running = self._making[key] = asyncio.create_task(self._make(asset, order), name="rendition")
            running.add_done_callback(lambda done: self._ended(key, done))
        return running

    def _ended(self, key: tuple[str, str], task: asyncio.Task[Content]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # seen here even if everyone who asked has left

    async def _make(self, asset: Asset, order: Order) -> Content:
        content = asset.content
        # Whoever looked just before the last making ended comes here after it.
        found = await self._store.find(content.object_key, order.key)
        if found is not None:
            return found
        made = await self._transcoded(content, order)
        fresh = _content(content.object_key, made)
        await self._objects.put(fresh.object_key, made.data)
        try:
            kept = await self._store.add(NewRendition(asset, order.key, fresh))
        except OriginalGone:
            await self._objects.delete(fresh.object_key)
            raise not_found(asset.asset_id) from None
        if kept.object_key != fresh.object_key:  # another process was faster
            await self._objects.delete(fresh.object_key)
        return kept

    async def _transcoded(self, content: Content, order: Order) -> Made:
        async with self._slots:
            data = await self._objects.read(content.object_key, 0, content.size_bytes)
            with span("storage.transcode", attributes={"format": order.format, "width": order.width}):
                return await asyncio.get_running_loop().run_in_executor(self._threads, transcode, data, order)


def _content(original_key: str, made: Made) -> Content:
    key = f"{original_key}.r-{uuid4().hex[:12]}"
    return Content(sha256(made.data).hexdigest(), key, made.width, made.height, made.format, len(made.data))
