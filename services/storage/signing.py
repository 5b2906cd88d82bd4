"""Signed addresses: HMAC-SHA256 over path and query, with an expiry and the id of the key.

The signature covers the request target up to `&sig=` byte for byte, so that any change to it (another size, another
order, another spelling, something appended) is a wrong signature.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CONTEXT = b"imagemesh.url.v1\n"  # keeps these signatures apart from any other use of the same key
MARK = "&sig="
KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
TAIL = re.compile(r"[?&]exp=([0-9]{1,12})&kid=([A-Za-z0-9_-]{1,32})\Z")
MINIMUM_KEY_BYTES = 32
ASSET_PATH = re.compile(r"/a/(ast_[a-z0-9_]{1,60})")


class BadSignature(Exception):
    """The address was not made here, was changed, or has expired."""


@dataclass(frozen=True)
class KeyRing:
    """The keys by id. `current` signs; every one verifies, so that keys can be changed without breaking addresses."""

    keys: Mapping[str, bytes] = field(repr=False)
    current: str

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Reads `kid:hex,kid:hex`; the first is current. Raises ValueError without repeating any secret."""
        keys: dict[str, bytes] = {}
        for entry in text.split(","):
            kid, _, secret = entry.strip().partition(":")
            if not KID.fullmatch(kid) or kid in keys:
                raise ValueError("each key needs its own id of letters, digits, - or _: `kid:hex,kid:hex`")
            keys[kid] = _key_bytes(kid, secret)
        return cls(keys, next(iter(keys)))


@dataclass(frozen=True)
class Signed:
    """What a valid address says: path, the query's own parameters, and when it expires (Unix seconds)."""

    path: str
    query: str
    expires: int


@dataclass(frozen=True)
class Signer:
    """Makes whole addresses under `base` (`https://host`), good for a while from now by `clock` (Unix seconds)."""

    ring: KeyRing
    base: str
    clock: Callable[[], float] = time.time

    def sign(self, path: str, query: str, ttl: int) -> tuple[str, int]:
        """The address and when it expires, in Unix seconds; `ttl` in seconds."""
        expires = int(self.clock()) + ttl
        return self.base + sign(self.ring, path, query, expires), expires


def sign(ring: KeyRing, path: str, query: str, expires: int) -> str:
    """The request target for `path` (`/a/…`) and `query` (may be empty), good until `expires` (Unix seconds)."""
    target = f"{path}?{query}{'&' if query else ''}exp={expires}&kid={ring.current}"
    return f"{target}{MARK}{_signature(ring.keys[ring.current], target)}"


def verify(ring: KeyRing, target: str, now: float) -> Signed:
    """Reads a request target exactly as it came; raises BadSignature unless it is whole and has not expired."""
    signed = read(ring, target)
    if now >= signed.expires:
        raise BadSignature("the address has expired")
    return signed


def read(ring: KeyRing, target: str) -> Signed:
    """As `verify`, for addresses that may have expired: what they stood for, not a right to it."""
    signed, mark, signature = target.rpartition(MARK)
    tail = TAIL.search(signed)
    if not mark or tail is None:
        raise BadSignature("the address is not signed")
    key = ring.keys.get(tail[2], b"")
    good = hmac.compare_digest(_signature(key, signed).encode(), signature.encode("utf-8", "replace"))
    if not (good and key):
        raise BadSignature("the signature is wrong")
    path, _, query = signed[: tail.start()].partition("?")
    return Signed(path, query, int(tail[1]))


def asset_of(ring: KeyRing, url: str) -> str:
    """The id of the asset that an address was made for, whole or from its path on; BadSignature for any other."""
    _, _, behind = url.partition("://")
    target = f"/{behind.partition('/')[2]}" if behind else url
    path = ASSET_PATH.fullmatch(read(ring, target).path)
    if path is None:
        raise BadSignature("the address is not one of an asset")
    return path[1]


def _signature(key: bytes, target: str) -> str:
    digest = hmac.new(key, CONTEXT + target.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _key_bytes(kid: str, secret: str) -> bytes:
    try:
        key = bytes.fromhex(secret)
    except ValueError:
        raise ValueError(f"key {kid}: must be written in hex") from None
    if len(key) < MINIMUM_KEY_BYTES:
        raise ValueError(f"key {kid}: needs at least {MINIMUM_KEY_BYTES} bytes")
    return key
