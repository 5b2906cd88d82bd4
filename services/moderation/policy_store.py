"""Stored policies in SQL, over those of the files.

Every change locks the one row that counts changes, so that changes come one after another. Documents never change, so
those in force are remembered from one book to the next; reading one means checking each of its terms, which is work for
a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mesh.db import Database
from services.moderation import policy_changes
from services.moderation.policies import Policy, PolicyBook, PolicyDocument
from services.moderation.policy_changes import ENTRY, Who, entry_of, live_entries, versions_of
from services.moderation.policy_tables import POLICIES, POLICIES_VERSION
from services.moderation.policy_versions import Book, Entry, State, Version, book_of, file_entry

_CHANGES = sa.select(POLICIES_VERSION.c.version).where(POLICIES_VERSION.c.id == 1)
_IN_FORCE = sa.select(*ENTRY).where(POLICIES.c.state.in_((State.LIVE.value, State.SHADOW.value)))
_DOCUMENT = sa.select(POLICIES.c.document).where(
    POLICIES.c.policy_id == sa.bindparam("wanted_id"), POLICIES.c.version == sa.bindparam("wanted_version")
)

Found = Mapping[tuple[str, int], Any]  # by policy id and version: a Policy, or its document as it is stored


@dataclass(frozen=True)
class Page:
    """Which versions to list. tenant: its own and the default; empty: all. after: (policy id, version) or None."""

    size: int
    tenant: str = ""
    state: State | None = None
    after: tuple[str, int] | None = None


class PolicyStore:
    """The versions of all policies. Every method is one transaction.

    files: the built-in policies, in force where no stored version is live; their floor is under every policy.
    """

    def __init__(self, database: Database, files: PolicyBook) -> None:
        self._database = database
        self._files = files
        self._known: Mapping[tuple[str, int, str], Policy] = {}

    async def changes(self) -> int:
        """How often any policy was changed; a cheap question."""
        return await self._database.read(_changes)

    async def book(self) -> Book:
        """The policies in force. ValueError when a stored document is not one that this version understands."""
        changes, entries, found = await self._database.read(self._in_force)
        versions = await self._versions(entries, found)
        self._known = {(*version.entry.key, version.entry.digest): version.policy for version in versions}
        return book_of(changes, self._files, versions)

    async def add(self, document: PolicyDocument, etag: str, who: Who) -> Version:
        """Stores the document as the policy's next version, a draft; its own `version` is not looked at.

        Aborted when `etag` is not that of the newest version (empty: there is none); InvalidArgument when the policy
        belongs to another tenant.
        """
        entry = await self._database.write(lambda c: policy_changes.add(c, self._files, document, etag, who))
        numbered = document.model_copy(update={"version": entry.version})
        return Version(entry, self._over_floor(numbered))

    async def set_state(self, wanted: tuple[str, int], state: State, etag: str, who: Who) -> Version:
        """Changes the state of a version (policy id and number); the one that was live or shadow before gives way.

        NotFound; Aborted when `etag` is an older one; FailedPrecondition when another policy is live for the tenant,
        and for anything but LIVE of a version from a file.
        """
        change = (state, etag)
        entry = await self._database.write(lambda c: policy_changes.set_state(c, self._files, wanted, change, who))
        return await self._complete(entry)

    async def get(self, policy_id: str, version: int) -> Version | None:
        """One version; version 0 is the live one."""
        entries = await self._database.read(lambda c: versions_of(c, self._files, policy_id))
        for entry in entries:
            if entry.version == version or (version == 0 and entry.state is State.LIVE):
                return await self._complete(entry)
        return None

    async def page(self, page: Page) -> Sequence[Version]:
        """Up to `size` versions by policy id, then newest first."""
        entries, found = await self._database.read(lambda c: self._listed(c, page))
        return await self._versions(entries, found)

    async def _complete(self, entry: Entry) -> Version:
        found = await self._database.read(lambda c: self._documents(c, [entry]))
        return (await self._versions([entry], found))[0]

    async def _versions(self, entries: Sequence[Entry], found: Found) -> list[Version]:
        unread = [entry for entry in entries if not isinstance(found[entry.key], Policy)]
        read = await asyncio.to_thread(self._read, unread, found) if unread else {}
        return [Version(entry, read.get(entry.key) or found[entry.key]) for entry in entries]

    def _read(self, entries: Sequence[Entry], found: Found) -> dict[tuple[str, int], Policy]:
        return {entry.key: self._over_floor(PolicyDocument.model_validate(found[entry.key])) for entry in entries}

    def _file(self, policy_id: str) -> Policy:
        policy = self._files.find(policy_id)
        if policy is None:
            raise ValueError(f"no file has the policy {policy_id}")
        return policy

    def _over_floor(self, document: PolicyDocument) -> Policy:
        return Policy(document=document, floor=self._files.for_tenant("").floor)

    def _in_force(self, connection: sa.Connection) -> tuple[int, list[Entry], Found]:
        # The count first: a change that comes in between makes the book newer than it says, never older.
        changes = _changes(connection)
        entries = [entry_of(row) for row in connection.execute(_IN_FORCE).mappings()]
        return changes, entries, self._documents(connection, entries)

    def _listed(self, connection: sa.Connection, page: Page) -> tuple[list[Entry], Found]:
        listed = {entry.key: entry for entry in map(entry_of, connection.execute(_query(page)).mappings())}
        live = live_entries(connection)
        for policy in self._files.all():
            entry = file_entry(policy, live)
            if _on(page, entry) and connection.execute(_DOCUMENT, _wanted(entry)).first() is None:
                listed[entry.key] = entry
        entries = sorted(listed.values(), key=_order)[: page.size]
        return entries, self._documents(connection, entries)

    def _documents(self, connection: sa.Connection, entries: Sequence[Entry]) -> Found:
        return {entry.key: self._document(connection, entry) for entry in entries}

    def _document(self, connection: sa.Connection, entry: Entry) -> Policy | Mapping[str, Any]:
        """The policy where it is known, else what is stored of it."""
        if not entry.stored:
            return self._file(entry.policy_id)
        known = self._known.get((*entry.key, entry.digest))
        return known or connection.execute(_DOCUMENT, _wanted(entry)).scalar_one()


def _changes(connection: sa.Connection) -> int:
    return int(connection.execute(_CHANGES).scalar_one())


def _wanted(entry: Entry) -> dict[str, str | int]:
    return {"wanted_id": entry.policy_id, "wanted_version": entry.version}


def _order(entry: Entry) -> tuple[str, int]:
    return entry.policy_id, -entry.version


def _on(page: Page, entry: Entry) -> bool:
    if page.after is not None and _order(entry) <= (page.after[0], -page.after[1]):
        return False
    if page.tenant and entry.tenant not in ("", page.tenant):
        return False
    return page.state in (None, entry.state)


def _query(page: Page) -> sa.Select[Any]:
    table = POLICIES.c
    query = sa.select(*ENTRY).order_by(table.policy_id, table.version.desc()).limit(page.size)
    if page.after is not None:
        policy_id, version = page.after
        same = sa.and_(table.policy_id == policy_id, table.version < version)
        query = query.where(sa.or_(table.policy_id > policy_id, same))
    if page.tenant:
        query = query.where(table.tenant.in_(("", page.tenant)))
    if page.state is not None:
        query = query.where(table.state == page.state.value)
    return query


__all__ = ["Page", "PolicyStore", "Who"]
