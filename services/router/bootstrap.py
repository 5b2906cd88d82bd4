"""The first API key: made when there is none, and written where only its owner reads it."""

from __future__ import annotations

import os
from pathlib import Path

from mesh.errors import Unauthenticated
from mesh.ids import new_id
from services.router import keys
from services.router.key_store import KeyStore
from services.router.keys import KeyTerms, Secret

ROLES = frozenset({"CALLER", "OPERATOR", "REVIEWER"})


async def ensure_key(store: KeyStore, path: Path, tenant: str) -> bool:
    """Makes the key if no key exists; tells whether it did.

    The file is complete before the key is stored, so that a crash in between leaves no key that nobody knows: the next
    start finds the file and stores the secret in it. Two processes that start at once agree on one file.
    """
    secret = _read(path)
    if secret is None:
        if await store.any():
            return False
        secret = _written(path)
    return await store.bootstrap(secret, KeyTerms(tenant, ROLES, name="bootstrap"))


def _read(path: Path) -> Secret | None:
    try:
        return keys.parse_secret(path.read_text().strip())
    except (OSError, Unauthenticated):
        return None


def _written(path: Path) -> Secret:
    """Writes a new secret, or reads the one that another process has just written."""
    secret = keys.new_secret(new_id("key"))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret.text + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(partial, path)
    except FileExistsError:
        return _read(path) or _replaced(partial, path, secret)
    finally:
        partial.unlink(missing_ok=True)
    return secret


def _replaced(partial: Path, path: Path, secret: Secret) -> Secret:
    """The file was there and held no key."""
    partial.rename(path)
    return secret
