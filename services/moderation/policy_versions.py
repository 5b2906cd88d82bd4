"""Versions of policies as values: their states, their etags, and the book that is made of those in force."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.moderation.policies import Policy, PolicyBook, PolicyDocument


class State(StrEnum):
    """Whether a version decides anything; the names of the contract."""

    LIVE = "LIVE"
    SHADOW = "SHADOW"
    DRAFT = "DRAFT"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True)
class Entry:
    """What is kept of a version beside its document.

    digest: of the document. revision: how often its state changed; 0 for one from a file. create_us: 0 there.
    """

    policy_id: str
    version: int
    tenant: str
    state: State
    revision: int
    digest: str
    create_us: int

    @property
    def stored(self) -> bool:
        """False for a version that comes from a file."""
        return self.create_us > 0

    @property
    def key(self) -> tuple[str, int]:
        """Policy id and version."""
        return self.policy_id, self.version

    @property
    def etag(self) -> str:
        """Changes with the document, the state, and when the state goes there and back."""
        parts = (self.policy_id, str(self.version), self.digest, self.state.value, str(self.revision))
        return hashlib.sha256(":".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Version:
    """One version of a policy."""

    entry: Entry
    policy: Policy


@dataclass(frozen=True)
class Book:
    """The policies in force at one count of their changes. shadows: by policy id; they decide nothing."""

    changes: int
    live: PolicyBook
    shadows: Mapping[str, Policy] = field(default_factory=dict)

    def for_tenant(self, tenant: str) -> Policy:
        """The tenant's own live policy, or the default."""
        return self.live.for_tenant(tenant)

    def shadows_for(self, tenant: str, policy: Policy) -> Sequence[Policy]:
        """What is applied beside the policy: its own shadow version, and that of a policy the tenant is to have."""
        return tuple(
            shadow
            for policy_id, shadow in self.shadows.items()
            if policy_id == policy.policy_id or (tenant and shadow.document.tenant == tenant)
        )


def book_of(changes: int, files: PolicyBook, stored: Iterable[Version]) -> Book:
    """The files' policies with the stored ones over them, by policy and by tenant."""
    versions = list(stored)
    live = [version for version in versions if version.entry.state is State.LIVE]
    entries = [version.entry for version in live]
    kept = [policy for policy in files.all() if not replaced(policy, entries)]
    shadows = {version.entry.policy_id: version.policy for version in versions if version.entry.state is State.SHADOW}
    return Book(changes, PolicyBook([*kept, *(version.policy for version in live)]), shadows)


def replaced(file: Policy, live: Iterable[Entry]) -> bool:
    """Whether a stored live policy stands in for the file's."""
    tenant = file.document.tenant
    return any(entry.policy_id == file.policy_id or entry.tenant == tenant for entry in live)


def file_entry(policy: Policy, live: Iterable[Entry]) -> Entry:
    """A version from a file, beside the stored live ones."""
    state = State.ARCHIVED if replaced(policy, live) else State.LIVE
    return Entry(policy.policy_id, policy.version, policy.document.tenant, state, 0, digest(policy.document), 0)


def digest(document: PolicyDocument) -> str:
    """SHA-256 over the whole document, lower-case hex."""
    return hashlib.sha256(document.model_dump_json().encode()).hexdigest()
