"""API keys: `imk_<id>_<secret>`, 26 characters of id and 32 random bytes of secret. Pure.

Only the SHA-256 of a secret is kept: it has too much randomness to be guessed, so a slow hash would protect nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mesh.auth import Principal
from mesh.errors import FieldViolation, InvalidArgument, Unauthenticated

PREFIX = "imk"
KEY_ROLES = frozenset({"CALLER", "OPERATOR", "REVIEWER"})


class KeyState(StrEnum):
    """Where a key stands."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a key may do. cap_micros: everything ever spent, None for no cap. models: empty allows all."""

    tenant: str
    roles: frozenset[str]
    name: str = ""
    user: str = ""
    models: tuple[str, ...] = ()
    cap_micros: int | None = None
    expire_time: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key, without its secret."""

    key_id: str
    terms: KeyTerms
    state: KeyState
    create_time: int
    revoke_time: int | None = None

    @property
    def principal(self) -> Principal:
        """Whoever shows this key."""
        terms = self.terms
        return Principal(terms.tenant, self.key_id, terms.roles, terms.user, terms.models)


@dataclass(frozen=True, slots=True)
class Secret:
    """A key's secret as its holder sends it. It prints as its id only."""

    key_id: str
    text: str

    @property
    def digest(self) -> bytes:
        """What is stored of it."""
        return hashlib.sha256(self.text.encode()).digest()

    def __repr__(self) -> str:
        return f"Secret({self.key_id})"


def new_secret(key_id: str, randomness: Callable[[int], str] = secrets.token_urlsafe) -> Secret:
    """A fresh secret for the key."""
    return Secret(key_id, f"{PREFIX}_{key_id.removeprefix('key_')}_{randomness(32)}")


def parse_secret(text: str) -> Secret:
    """Reads what a caller sent; Unauthenticated (KEY_INVALID) when it is no key of ours."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or len(key_id) != 26 or len(secret) < 43 or len(text) > 200 or not text.isascii():
        raise refused()
    return Secret(f"key_{key_id}", text)


def refused() -> Unauthenticated:
    """The one answer to every bad key: nobody learns which part was wrong."""
    return Unauthenticated("the API key is unknown, revoked or expired", reason="KEY_INVALID")


def same(stored: bytes | None, secret: Secret) -> bool:
    """Whether the stored hash is the secret's, in constant time."""
    return stored is not None and hmac.compare_digest(stored, secret.digest)


def check_expiry(expire_time: int | None, now: int) -> None:
    """InvalidArgument unless the expiry is in the future."""
    if expire_time is not None and expire_time <= now:
        fix = "must be in the future"
        raise InvalidArgument(f"expire_time: {fix}", violations=(FieldViolation("expire_time", fix),))
