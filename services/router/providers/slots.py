"""How many calls an account has at once: this worker's share of its limit, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Share = Callable[[], int]
"""How many workers use an account's limits together, at least 1."""


def alone() -> int:
    """This worker is the only one."""
    return 1


class Slots:
    """A semaphore whose size follows the number of workers. Not thread-safe: it belongs to one event loop."""

    def __init__(self, most: int, share: Share = alone) -> None:
        """`most`: calls at once of the whole account, by all workers; each worker has one at least."""
        self._most = most
        self._share = share
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.busy = 0

    @property
    def free(self) -> bool:
        """Whether a call need not wait."""
        return self._room and not self._waiting

    @property
    def _room(self) -> bool:
        return self.busy < max(self._most // max(self._share(), 1), 1)

    def take(self) -> None:
        """One more call, whether there is room for it or not."""
        self.busy += 1

    async def acquire(self) -> None:
        """One more call, once there is room for it."""
        if self.free:
            self.take()
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # it was ours already
                self.release()
            elif mine in self._waiting:
                self._waiting.remove(mine)
            raise

    def release(self) -> None:
        """A call has ended."""
        self.busy -= 1
        while self._waiting and self._room:
            next_one = self._waiting.popleft()
            if not next_one.done():
                self.take()
                next_one.set_result(None)
