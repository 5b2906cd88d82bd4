"""Who is calling: API keys verified through the router, the mesh token between services, and the roles of each rpc."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from weakref import WeakValueDictionary

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from imagemesh.router.v1 import api_key_service_pb2, api_key_service_pb2_grpc
from imagemesh.type.v1 import access_pb2

from mesh.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from mesh.status import peer_errors

TENANT_HEADER = "x-imagemesh-tenant"
CACHE_SECONDS = 30.0
CACHE_KEYS = 10_000
VERIFY_TIMEOUT_S = 5.0
VERIFY_AT_ONCE = 32
VERIFY_WAITING = 2_000
KEY_REVOKED = "key-revoked"

CALLER = "CALLER"
OPERATOR = "OPERATOR"
INTERNAL = "INTERNAL"
REVIEWER = "REVIEWER"


@dataclass(frozen=True)
class Principal:
    """The caller of an rpc.

    roles: some of CALLER, OPERATOR, INTERNAL, REVIEWER. models: the key's allowlist, empty allows all. For an internal
    caller, `tenant` is the one it acts for and may be empty.
    """

    tenant: str
    key_id: str
    roles: frozenset[str]
    user: str = ""
    models: tuple[str, ...] = ()

    @property
    def internal(self) -> bool:
        """True for another service of the mesh."""
        return INTERNAL in self.roles


class KeyVerifier(Protocol):
    """Turns an API key into a principal."""

    async def verify(self, key: str) -> Principal:
        """Raises Unauthenticated (KEY_INVALID) for a key that is unknown, expired or revoked."""
        ...


_principal: ContextVar[Principal] = ContextVar("principal")


def principal() -> Principal:
    """The caller of the rpc that is running."""
    try:
        return _principal.get()
    except LookupError as error:
        raise Unauthenticated("no caller is known here", reason="KEY_MISSING") from error


@contextmanager
def acting_as(caller: Principal) -> Iterator[None]:
    """Makes `caller` the principal inside the block."""
    token = _principal.set(caller)
    try:
        yield
    finally:
        _principal.reset(token)


class Authenticator:
    """Finds the caller in a call's metadata and checks the roles that the rpc's `access` option lists."""

    def __init__(self, mesh_token: str, verifier: KeyVerifier) -> None:
        if len(mesh_token) < 16:
            raise ValueError("the mesh token must have at least 16 characters")
        self._mesh_token = mesh_token
        self._verifier = verifier

    async def authenticate(self, metadata: Mapping[str, str]) -> Principal:
        """The caller, or Unauthenticated."""
        scheme, _, credential = metadata.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            text = "send the API key as metadata `authorization: Bearer <key>`"
            raise Unauthenticated(text, reason="KEY_MISSING")
        if hmac.compare_digest(credential.encode(), self._mesh_token.encode()):
            return Principal(metadata.get(TENANT_HEADER, ""), "mesh", frozenset({INTERNAL}))
        return await self._verifier.verify(credential)

    def authorize(self, caller: Principal, method: MethodDescriptor) -> None:
        """PermissionDenied unless the caller has one of the rpc's roles."""
        allowed = allowed_roles(method)
        if caller.roles.isdisjoint(allowed):
            wanted = " or ".join(sorted(allowed)) or "nobody"
            raise PermissionDenied(f"{method.name} may be called by {wanted}; this key has {sorted(caller.roles)}")


@lru_cache(maxsize=512)
def allowed_roles(method: MethodDescriptor) -> frozenset[str]:
    """The names of the roles in the rpc's `access` option."""
    access = method.GetOptions().Extensions[access_pb2.access]
    return role_names(access.roles)


def role_names(roles: Iterable[access_pb2.Role.ValueType]) -> frozenset[str]:
    """Contract roles as the names that principals carry."""
    return frozenset(access_pb2.Role.Name(role).removeprefix("ROLE_") for role in roles)


class RemoteKeyVerifier:
    """Verifies keys through the router, which owns them."""

    def __init__(self, router: grpc.aio.Channel) -> None:
        self._keys = api_key_service_pb2_grpc.ApiKeyServiceStub(router)

    async def verify(self, key: str) -> Principal:
        """See `KeyVerifier`; Unavailable when the router does not answer."""
        request = api_key_service_pb2.VerifyApiKeyRequest(secret=key)
        with peer_errors("router"):
            response = await self._keys.VerifyApiKey(request, timeout=VERIFY_TIMEOUT_S)
        found = response.api_key
        return Principal(found.tenant, found.key_id, role_names(found.roles), found.user, tuple(found.models))


class CachedKeys:
    """Remembers verified keys for at most 30 s; a revocation signal forgets them at once.

    A key is asked for once at a time, `VERIFY_AT_ONCE` keys together; at most `VERIFY_WAITING` calls wait for that.
    """

    def __init__(self, inner: KeyVerifier, clock: Callable[[], float] = time.monotonic) -> None:
        self._inner = inner
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # one a key, while it is asked for
        self._turns = asyncio.Semaphore(VERIFY_AT_ONCE)
        self._waiting = 0

    async def verify(self, key: str) -> Principal:
        """From memory when fresh, else through the inner verifier; refusals are not remembered."""
        return self._fresh(key) or await self._ask(key)

    async def forget(self, _subject: str, key_id: bytes) -> None:
        """The callback for the `key-revoked` signal; its payload is the key's id."""
        gone = [key for key, (_, caller) in self._known.items() if caller.key_id == key_id.decode()]
        for key in gone:
            del self._known[key]

    def _fresh(self, key: str) -> Principal | None:
        entry = self._known.get(key)
        return entry[1] if entry is not None and entry[0] > self._clock() else None

    async def _ask(self, key: str) -> Principal:
        if self._waiting >= VERIFY_WAITING:
            raise ResourceExhausted("too many API keys are being verified; try again", retry_after=1.0)
        self._waiting += 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()), self._turns:
                return self._fresh(key) or await self._remember(key)
        finally:
            self._waiting -= 1

    async def _remember(self, key: str) -> Principal:
        caller = await self._inner.verify(key)
        self._known[key] = (self._clock() + CACHE_SECONDS, caller)
        self._known.move_to_end(key)
        while len(self._known) > CACHE_KEYS:
            self._known.popitem(last=False)
        return caller
