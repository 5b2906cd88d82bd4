"""API keys in SQL."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mesh import outbox
from mesh.auth import Principal
from mesh.db import Database, now_us
from mesh.errors import FailedPrecondition, NotFound
from services.router import job_events, keys, ledger_store
from services.router.job_events import Subject
from services.router.keys import ApiKey, KeyState, KeyTerms, Secret
from services.router.tables import api_keys, budgets
from services.router.tables import outbox as outbox_rows

_NOW = now_us()
_STATE = sa.case(
    (api_keys.c.revoke_time.is_not(None), KeyState.REVOKED.value),
    (api_keys.c.expire_time <= _NOW, KeyState.EXPIRED.value),
    else_=KeyState.ACTIVE.value,
).label("state")
_KEYS = sa.select(
    api_keys,
    _STATE,
    sa.func.coalesce(api_keys.c.old_expire_time > _NOW, sa.false()).label("old_works"),
    budgets.c.cap_micros,
).join_from(api_keys, budgets, budgets.c.budget_id == api_keys.c.key_id)
_KEY = _KEYS.where(api_keys.c.key_id == sa.bindparam("v_key"))


class KeyStore:
    """The keys of every tenant. It is a `KeyVerifier` too."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, secret: Secret, terms: KeyTerms) -> ApiKey:
        """Stores a new key and opens its budget; InvalidArgument when it would be expired already."""
        return await self._database.write(lambda connection: _create(connection, secret, terms))

    async def bootstrap(self, secret: Secret, terms: KeyTerms) -> bool:
        """Stores the key if there is none at all; tells whether it did."""

        def work(connection: sa.Connection) -> bool:
            if connection.execute(sa.select(api_keys.c.key_id).limit(1)).first() is not None:
                return False
            _create(connection, secret, terms)
            return True

        return await self._database.write(work)

    async def any(self) -> bool:
        """Whether there is any key, revoked ones included."""
        query = sa.select(api_keys.c.key_id).limit(1)
        return await self._database.read(lambda connection: connection.execute(query).first() is not None)

    async def get(self, key_id: str) -> ApiKey:
        """The key; NotFound (KEY_NOT_FOUND)."""
        return await self._database.read(lambda connection: _api_key(_row(connection, key_id)))

    async def list(self, tenant: str, after: str, limit: int) -> list[ApiKey]:
        """Keys older than the key id `after` (empty: from the newest), of one tenant or with an empty name of all."""
        query = _KEYS.order_by(api_keys.c.key_id.desc()).limit(limit)
        if tenant:
            query = query.where(api_keys.c.tenant == tenant)
        if after:
            query = query.where(api_keys.c.key_id < after)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_api_key(row) for row in rows]

    async def rotate(self, secret: Secret, overlap_s: float) -> ApiKey:
        """Gives the key of `secret` that secret; the one before works for `overlap_s` more.

        Raises:
            NotFound: KEY_NOT_FOUND. FailedPrecondition: WRONG_STATE, it is revoked or expired.
        """
        return await self._database.write(lambda connection: _rotate(connection, secret, overlap_s))

    async def revoke(self, key_id: str) -> ApiKey:
        """Ends the key for good and tells the world; a repeat changes nothing. NotFound: KEY_NOT_FOUND."""
        return await self._database.write(lambda connection: _revoke(connection, key_id))

    async def find(self, secret: Secret) -> ApiKey:
        """The active key that this secret opens; Unauthenticated (KEY_INVALID)."""
        query = {"v_key": secret.key_id}
        row = await self._database.read(lambda connection: connection.execute(_KEY, query).one_or_none())
        if row is None or row.state != KeyState.ACTIVE:
            raise keys.refused()
        if keys.same(row.secret_hash, secret) or (row.old_works and keys.same(row.old_secret_hash, secret)):
            return _api_key(row)
        raise keys.refused()

    async def verify(self, key: str) -> Principal:
        """Who shows this key; Unauthenticated (KEY_INVALID)."""
        return (await self.find(keys.parse_secret(key))).principal


def _create(connection: sa.Connection, secret: Secret, terms: KeyTerms) -> ApiKey:
    now: int = connection.execute(sa.select(now_us())).scalar_one()
    keys.check_expiry(terms.expire_time, now)
    values = {
        "key_id": secret.key_id,
        "tenant": terms.tenant,
        "name": terms.name,
        "user": terms.user,
        "roles": " ".join(sorted(terms.roles)),
        "models": " ".join(terms.models),
        "secret_hash": secret.digest,
        "expire_time": terms.expire_time,
        "create_time": now,
    }
    connection.execute(sa.insert(api_keys), values)
    ledger_store.open_budget(connection, secret.key_id, terms.tenant, terms.cap_micros)
    return ApiKey(secret.key_id, terms, KeyState.ACTIVE, now)


def _rotate(connection: sa.Connection, secret: Secret, overlap_s: float) -> ApiKey:
    key = _api_key(_row(connection, secret.key_id))
    if key.state is not KeyState.ACTIVE:
        raise FailedPrecondition(f"{key.key_id} is {key.state.lower()}; create a new key")
    values = {
        "secret_hash": secret.digest,
        "old_secret_hash": api_keys.c.secret_hash,
        "old_expire_time": now_us() + round(overlap_s * 1_000_000),
    }
    connection.execute(sa.update(api_keys).where(api_keys.c.key_id == key.key_id).values(values))
    return key


def _revoke(connection: sa.Connection, key_id: str) -> ApiKey:
    key = _api_key(_row(connection, key_id))
    if key.state is KeyState.REVOKED:
        return key
    connection.execute(sa.update(api_keys).where(api_keys.c.key_id == key_id).values(revoke_time=now_us()))
    key = _api_key(_row(connection, key_id))
    subject = Subject(key.terms.tenant, key_id, 1, key.revoke_time or 0)
    outbox.append(connection, outbox_rows, job_events.key_revoked(subject))
    return key


def _row(connection: sa.Connection, key_id: str) -> Any:
    row = connection.execute(_KEY, {"v_key": key_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no API key {key_id!r}", reason="KEY_NOT_FOUND")
    return row


def _api_key(row: Any) -> ApiKey:
    terms = KeyTerms(
        tenant=row.tenant,
        roles=frozenset(row.roles.split()),
        name=row.name,
        user=row.user,
        models=tuple(row.models.split()),
        cap_micros=row.cap_micros,
        expire_time=row.expire_time,
    )
    return ApiKey(row.key_id, terms, KeyState(row.state), row.create_time, row.revoke_time)
