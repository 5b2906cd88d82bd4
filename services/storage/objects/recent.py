"""A memory of what was just stored, in front of any store: a new picture is read twice within seconds, by moderation
and by whoever ordered it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from services.storage.objects.base import ObjectStore

KEEP_S = 60.0


class Recent:
    """Keeps the bytes of the newest puts, at most `limit` bytes in all and each for at most a minute.

    Objects never change under their key, so memory and store cannot disagree; a deletion elsewhere is noticed at the
    end of that minute, and what is served is decided by the rows anyway.
    """

    def __init__(self, inner: ObjectStore, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._limit = limit
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.size = 0

    async def put(self, key: str, data: bytes) -> None:
        """Stores, then remembers."""
        await self._inner.put(key, data)
        self._forget(key)
        self._kept[key] = (self._clock() + KEEP_S, data)
        self.size += len(data)
        self._drop_old()

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """From memory, else from the store."""
        self._drop_old()
        known = self._kept.get(key)
        if known is None:
            return await self._inner.read(key, offset, length)
        return known[1][offset : offset + length]

    async def delete(self, key: str) -> None:
        """Forgets, then deletes."""
        self._forget(key)
        await self._inner.delete(key)

    async def ping(self) -> None:
        """Asks the store; memory says nothing of its health."""
        await self._inner.ping()

    async def close(self) -> None:
        """Forgets everything and closes the store."""
        self._kept.clear()
        self.size = 0
        await self._inner.close()

    def _drop_old(self) -> None:
        """Oldest first, which is also the order in which they expire."""
        now = self._clock()
        while self._kept:
            key, (until, _) = next(iter(self._kept.items()))
            if self.size <= self._limit and now < until:
                break
            self._forget(key)

    def _forget(self, key: str) -> None:
        _, data = self._kept.pop(key, (0.0, b""))
        self.size -= len(data)
