"""How a worker hears of a call to a provider while it runs: the provider's id, steps, previews, and its call back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol


class Watcher(Protocol):
    """Whoever is told of steps; see `runs.Grip`."""

    def progressed(self, step: int, steps: int) -> None:
        """The drawing went on."""


class OrderListener:
    """A `providers.base.Listener`: stores the provider's id, keeps it at hand, and passes progress on."""

    def __init__(self, store: Callable[[str], Awaitable[None]], watcher: Watcher, request_id: str = "") -> None:
        """`store` writes the provider's id down; `request_id` is what is known of it already."""
        self._store = store
        self._watcher = watcher
        self._called_back = asyncio.Event()
        self.request_id = request_id

    async def accepted(self, provider_request_id: str) -> None:
        """See `Listener`."""
        self.request_id = provider_request_id
        await self._store(provider_request_id)

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
