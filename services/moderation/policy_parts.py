"""What policies need in one process, put together: compiled rules, the book in force, and the desk of the rpcs."""

from __future__ import annotations

from collections.abc import Collection

from mesh.db import Database
from mesh.events import Bus
from services.moderation.policies import PolicyBook
from services.moderation.policy_service import PolicyDesk
from services.moderation.policy_shelf import POLICIES_CHANGED, PolicyShelf
from services.moderation.policy_store import PolicyStore
from services.moderation.policy_wire import NAMES
from services.moderation.replay_store import Replays
from services.moderation.rule_shelf import RuleShelf


class Policies:
    """The policies of one process. `start` and `stop` may each be called once, in order.

    files: the built-in policies. layers: those that this process has.
    """

    def __init__(self, database: Database, bus: Bus, files: PolicyBook, layers: Collection[str]) -> None:
        self._bus = bus
        self.rules = RuleShelf(files.all(), files.names)
        self.store = PolicyStore(database, files)
        self.shelf = PolicyShelf(self.store, files, self.rules, layers)
        known = (*layers, *(f"{NAMES}{name}" for name in (files.names.lists if files.names else ())))
        self.desk = PolicyDesk(self.store, self.shelf, Replays(database, self.store, self.rules), known, self._tell)

    async def start(self) -> None:
        """Reads the policies in force, and listens for changes."""
        await self.shelf.start()
        self._heard = await self._bus.on_signal(POLICIES_CHANGED, self.shelf.on_signal)

    async def stop(self) -> None:
        """Stops listening."""
        await self._heard.close()
        await self.shelf.stop()

    async def _tell(self) -> None:
        await self._bus.signal(POLICIES_CHANGED)
