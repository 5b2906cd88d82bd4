"""Removes the bytes of objects that no row refers to any more, until it has succeeded."""

from __future__ import annotations

import asyncio

from mesh.telemetry import logger
from services.storage.objects.base import ObjectStore
from services.storage.rendition_store import RenditionStore

EVERY_S = 60.0

log = logger(__name__)


class Sweeper:
    """The list of doomed objects is written with the deletion itself, so a crash loses none of it."""

    def __init__(self, store: RenditionStore, objects: ObjectStore) -> None:
        self._store = store
        self._objects = objects
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Says that something was deleted; without it the sweeper looks once a minute."""
        self._wanted.set()

    async def run(self) -> None:
        """Sweeps for ever; what fails is tried again later."""
        while True:
            self._wanted.clear()
            try:
                while await self.sweep():
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, the list is kept and the next look may work
                log.warning("sweeping waits", error=type(error).__name__)
            await _wait(self._wanted, EVERY_S)

    async def sweep(self) -> int:
        """Removes one batch; the number of objects removed."""
        doomed = await self._store.doomed()
        for key in doomed:
            await self._objects.delete(key)
        if doomed:
            await self._store.removed(doomed)
        return len(doomed)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
