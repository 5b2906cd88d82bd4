"""How a worker hears of a call to a provider while it runs: the provider's id, steps, previews, and its call back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an order is: the provider's id of the request, and the account that took it; empty while not known."""

    request_id: str = ""
    account: str = ""


class Watcher(Protocol):
    """Whoever is told of steps; see `runs.Grip`."""

    def progressed(self, step: int, steps: int) -> None:
        """The drawing went on."""


class OrderListener:
    """A `providers.base.Listener`: stores the provider's id, keeps it at hand, and passes progress on."""

    def __init__(self, store: Callable[[Placed], Awaitable[None]], watcher: Watcher, placed: Placed) -> None:
        """`store` writes down where the order is; `placed` is what is known of that already.

        `sent`: whether the order may have gone out; before that, nobody has drawn or billed anything.
        """
        self._store = store
        self._watcher = watcher
        self._called_back = asyncio.Event()
        self.placed = placed
        self.sent = bool(placed.request_id)

    async def accepted(self, provider_request_id: str) -> None:
        """See `Listener`."""
        self.sent, self.placed = True, replace(self.placed, request_id=provider_request_id)
        await self._store(self.placed)

    def chosen(self, account: str) -> None:
        """See `Listener`. An account before this one has turned the order away, so nobody has it."""
        self.sent, self.placed = False, replace(self.placed, account=account)

    def progress(self, step: int, steps: int) -> None:
        """See `Listener`."""
        self._watcher.progressed(step, steps)

    def preview(self, data: bytes, media_type: str) -> None:
        """See `Listener`. Nobody has judged it, so nobody sees it."""

    def wake(self) -> None:
        """The vendor has called us about this order."""
        self._called_back.set()

    async def woken(self) -> None:
        """See `Listener`."""
        await self._called_back.wait()
        self._called_back.clear()
