"""Who may have long texts judged when: one tenant has one at a time, so that it does not hold up all the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from mesh.errors import Unavailable

LONG_CHARACTERS = 2_000  # shorter ones take milliseconds
WAITING = 256  # calls of all tenants together


class Turns:
    """Turns of one process; Unavailable when too many wait already."""

    def __init__(self, waiting: int = WAITING) -> None:
        self._room = waiting
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # one a tenant, while it has calls

    @asynccontextmanager
    async def of(self, tenant: str, characters: int) -> AsyncIterator[None]:
        """The tenant's turn for so many characters; short texts need none."""
        if characters <= LONG_CHARACTERS:
            yield
            return
        if self._room <= 0:
            raise Unavailable("too many long texts wait to be judged", retry_after=1.0)
        self._room -= 1
        try:
            async with self._locks.setdefault(tenant, asyncio.Lock()):
                yield
        finally:
            self._room += 1
