"""The policies in force, as this process knows them: read at the start, when somebody says so, and every second."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from mesh.errors import MeshError, Unavailable
from mesh.process import Background
from mesh.telemetry import logger
from services.moderation.policies import Policy, PolicyBook
from services.moderation.policy_store import PolicyStore
from services.moderation.policy_versions import Book, book_of
from services.moderation.rule_shelf import RuleShelf

POLICIES_CHANGED = "policies-changed"  # the signal that spares waiting for the poll
POLL_SECONDS = 1.0

log = logger(__name__)


class PolicyShelf:
    """Keeps a book and reads it again when it changed. `start` and `stop` may each be called once, in order.

    No verdict is stored under an older book than the one in force (see `Store.record`); the poll is what keeps verdicts
    from being given twice.
    """

    def __init__(self, store: PolicyStore, files: PolicyBook, rules: RuleShelf, layers: Collection[str]) -> None:
        self._store = store
        self._layers = frozenset(layers)
        self._rules = rules
        self._book = book_of(0, files, ())
        self._reading = asyncio.Lock()
        self._polling = Background("policies", self._poll)

    @property
    def book(self) -> Book:
        """The policies in force when it was read."""
        return self._book

    def usable(self, tenant: str, book: Book) -> Policy:
        """The tenant's policy in the book; Unavailable when it needs a layer that this process does not have."""
        policy = book.for_tenant(tenant)
        missing = sorted(set(policy.document.required_layers) - self._layers)
        if missing and policy.document.failure_mode == "CLOSED":
            text = f"the policy {policy.policy_id} needs {', '.join(missing)}, which this service does not have"
            raise Unavailable(text, retry_after=5.0)
        return policy

    async def start(self) -> None:
        """Reads the book, and raises what hinders it."""
        await self.refresh()
        self._polling.start()

    async def stop(self) -> None:
        """Ends the poll."""
        await self._polling.stop()

    async def refresh(self) -> None:
        """Reads the book again if any policy was changed; compiled rules are at hand before it is used.

        Unavailable when a document in force is not one that this release understands.
        """
        async with self._reading:
            if await self._store.changes() == self._book.changes:
                return
            book = await self._readable()
            await self._rules.warm((*book.live.all(), *book.shadows.values()))
            self._book = book
            log.info("policies read", changes=book.changes)

    async def _readable(self) -> Book:
        try:
            return await self._store.book()
        except ValueError as error:
            log.error("a stored policy cannot be read", detail=str(error)[:1000])
            raise Unavailable("a stored policy cannot be read by this service", retry_after=5.0) from error

    async def on_signal(self, _subject: str, _payload: bytes) -> None:
        """Somebody changed a policy."""
        await self._try()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._try()

    async def _try(self) -> None:
        """A book that cannot be read leaves the old one; verdicts are refused then, since it is not in force."""
        try:
            await self.refresh()
        except MeshError as error:
            log.warning("policies are not read", detail=error.message)
