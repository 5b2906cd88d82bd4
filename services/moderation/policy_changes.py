"""How stored policies change: functions of a connection, one change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mesh.db import now_us
from mesh.errors import Aborted, FailedPrecondition, NotFound, invalid
from services.moderation import audit
from services.moderation.audit import AuditEntry
from services.moderation.policies import FILE_VERSIONS, PolicyBook, PolicyDocument
from services.moderation.policy_tables import POLICIES, POLICIES_VERSION
from services.moderation.policy_versions import Entry, State, digest, file_entry

GIVES_WAY = {State.LIVE: State.ARCHIVED, State.SHADOW: State.DRAFT}  # what becomes of the version that was it before
STALE = "the policy was changed since it was read; read it again and use its etag"
ENTRY = tuple(column for column in POLICIES.c if column.name != "document")

_COUNT = sa.update(POLICIES_VERSION).values(version=POLICIES_VERSION.c.version + 1)


@dataclass(frozen=True)
class Who:
    """Who changes a policy: the key's id, and the trace of the call."""

    actor: str
    trace_id: str


def add(connection: sa.Connection, files: PolicyBook, document: PolicyDocument, etag: str, who: Who) -> Entry:
    """Stores the document as the policy's next version, a draft; see `PolicyStore.add`."""
    _one_at_a_time(connection)
    newest = next(iter(versions_of(connection, files, document.policy)), None)
    if etag != ("" if newest is None else newest.etag):
        raise Aborted(STALE)
    if newest is not None and newest.tenant != document.tenant:
        raise invalid("policy.tenant", f"{newest.tenant!r}: a policy stays with its tenant")
    if newest is None and not document.tenant:
        raise invalid("policy.tenant", f"required: {files.for_tenant('').policy_id} is the one policy for all others")
    # Numbers of the files are kept free, so that a file may go on with a later release.
    first = FILE_VERSIONS if files.find(document.policy) is not None else 0
    number = max(first, newest.version if newest is not None else 0) + 1
    numbered = document.model_copy(update={"version": number})
    now = int(connection.execute(sa.select(now_us())).scalar_one())
    added = Entry(document.policy, number, document.tenant, State.DRAFT, 1, digest(numbered), now)
    connection.execute(sa.insert(POLICIES), _row(added, numbered))
    _record(connection, added, who, "stored")
    return added


def set_state(
    connection: sa.Connection, files: PolicyBook, wanted: tuple[str, int], change: tuple[State, str], who: Who
) -> Entry:
    """Gives a version the state, if it still has the etag; see `PolicyStore.set_state`."""
    state, etag = change
    _one_at_a_time(connection)
    versions = versions_of(connection, files, wanted[0])
    found = next((entry for entry in versions if entry.key == wanted), None)
    if found is None:
        raise not_found(*wanted)
    if found.etag != etag:
        raise Aborted(STALE)
    if found.state is state:
        return found
    if not found.stored and state is not State.LIVE:
        raise FailedPrecondition(f"{wanted[0]} version {wanted[1]} comes from a file; make another version live")
    if state is State.LIVE:
        _refuse_second(connection, files, found)
    for other in versions:
        if other.stored and other.state is state and state in GIVES_WAY:
            _move(connection, other, GIVES_WAY[state], who)
    return _move(connection, found, state, who)


def versions_of(connection: sa.Connection, files: PolicyBook, policy_id: str) -> list[Entry]:
    """All versions of the policy, newest first; a file's stands where none is stored under its number."""
    query = sa.select(*ENTRY).where(POLICIES.c.policy_id == policy_id).order_by(POLICIES.c.version.desc())
    stored = [entry_of(row) for row in connection.execute(query).mappings()]
    policy = files.find(policy_id)
    if policy is None or any(entry.version == policy.version for entry in stored):
        return stored
    file = file_entry(policy, live_entries(connection))
    return sorted([*stored, file], key=lambda entry: -entry.version)


def live_entries(connection: sa.Connection) -> list[Entry]:
    """Every stored version that is live."""
    query = sa.select(*ENTRY).where(POLICIES.c.state == State.LIVE.value)
    return [entry_of(row) for row in connection.execute(query).mappings()]


def entry_of(row: sa.RowMapping) -> Entry:
    """The entry in a row of `policies`."""
    return Entry(**{column.name: row[column.name] for column in ENTRY} | {"state": State(row["state"])})


def not_found(policy_id: str, version: int) -> NotFound:
    """The refusal for a version that is not there or not the caller's."""
    of = f" in version {version}" if version else ""
    return NotFound(f"there is no policy {policy_id!r}{of}", reason="POLICY_NOT_FOUND")


def _one_at_a_time(connection: sa.Connection) -> None:
    """Counts the change, which locks the row: later changes and verdicts wait for the commit, and then see it."""
    connection.execute(_COUNT)


def _refuse_second(connection: sa.Connection, files: PolicyBook, wanted: Entry) -> None:
    """A tenant has one live policy; FailedPrecondition names the other one."""
    stored = live_entries(connection)
    from_files = [file_entry(policy, stored) for policy in files.all()]
    others: Sequence[Entry] = [*stored, *(entry for entry in from_files if entry.state is State.LIVE)]
    for other in others:
        if other.tenant == wanted.tenant and other.policy_id != wanted.policy_id:
            text = f"{other.policy_id} is live for {wanted.tenant or 'all tenants'}, and there is one at a time"
            raise FailedPrecondition(text, metadata={"policy_id": other.policy_id})


def _move(connection: sa.Connection, entry: Entry, state: State, who: Who) -> Entry:
    """The version in its new state; one from a file has no row, and is live again once the stored one gave way."""
    moved = replace(entry, state=state, revision=entry.revision + 1 if entry.stored else 0)
    if entry.stored:
        chosen = sa.update(POLICIES).where(POLICIES.c.policy_id == entry.policy_id, POLICIES.c.version == entry.version)
        connection.execute(chosen.values(state=state.value, revision=moved.revision))
    _record(connection, moved, who, state.value)
    return moved


def _record(connection: sa.Connection, entry: Entry, who: Who, note: str) -> None:
    audit.record(
        connection,
        AuditEntry(
            action="POLICY_CHANGED",
            tenant=entry.tenant,
            actor=who.actor,
            trace_id=who.trace_id,
            policy_id=entry.policy_id,
            policy_version=entry.version,
            policy_etag=entry.etag,
            sha256=entry.digest,
            note=note,
        ),
    )


def _row(entry: Entry, document: PolicyDocument) -> dict[str, Any]:
    return {
        "policy_id": entry.policy_id,
        "version": entry.version,
        "tenant": entry.tenant,
        "state": entry.state.value,
        "revision": entry.revision,
        "digest": entry.digest,
        "document": document.model_dump(mode="json"),
        "create_us": entry.create_us,
    }
