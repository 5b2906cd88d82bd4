"""How many workers are alive, as their signals tell: account limits are shared among them.

Without NATS every worker counts itself alone and may use the whole limit; the vendor's 429 is then the bound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SUBJECT = "worker."
EVERY_S = 3.0
FORGOTTEN_S = 10.0
MOST = 10_000
"""Workers that are remembered; a flood of made-up ones must not fill the memory."""


class Presence:
    """Tells that this worker is there, and counts those that tell so."""

    def __init__(
        self, owner: str, tell: Callable[[str, bytes], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._owner = owner
        self._tell = tell
        self._clock = clock
        self._heard: dict[str, float] = {}

    async def heard(self, subject: str, _payload: bytes) -> None:
        """The callback of the `worker.*` signals."""
        if len(self._heard) < MOST:
            self._heard[subject.rpartition(".")[2]] = self._clock()

    def count(self) -> int:
        """Workers heard of lately, this one included; at least 1."""
        since = self._clock() - FORGOTTEN_S
        self._heard = {owner: heard for owner, heard in self._heard.items() if heard > since}
        return len(self._heard.keys() | {self._owner})

    async def watch(self) -> None:
        """Tells for ever."""
        while True:
            self._tell(SUBJECT + self._owner, b"")
            await asyncio.sleep(EVERY_S)
