"""Vendors that call us back: what they send is believed only when it is signed, fresh and about a known order.

A call back is never the result itself: it wakes the order's poll, which asks the vendor. So a forged one costs a poll.
Sources: Standard Webhooks (standard-webhooks/standard-webhooks, spec 1.0.0); the vendors' own pages for the Ed25519
schemes, as `docs/providers.md` lists them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.router.providers.http import HttpClient, HttpError, HttpRequest

TOLERANCE_S = 300.0
"""How far a call back's time may be from ours, either way."""
KEYS_FRESH_S = 24 * 3600.0
"""How long a vendor's public keys are used without asking again."""
KEYS_AGAIN_S = 60.0
"""How soon they may be asked for again because a signature did not fit."""
KEYS_TIMEOUT = 10.0


class CallBackRefusedError(Exception):
    """A call back that is not to be believed; the text says why and holds nothing secret."""


@dataclass(frozen=True)
class CallBack:
    """What came to `/hooks/{provider}/{attempt_id}`. Header names in lower case."""

    headers: Mapping[str, str]
    body: bytes
    query: Mapping[str, str] = field(default_factory=dict)
    """What follows `?` in the address, for adapters that add to it what the vendor's body leaves out."""

    def header(self, name: str) -> str:
        """A header that must be there."""
        value = self.headers.get(name, "")
        if not value:
            raise CallBackRefusedError(f"it has no header {name}")
        return value


Now = Callable[[], float]


def fresh(timestamp: str, now: float) -> None:
    """Refuses what is older or newer than the tolerance; `timestamp` in seconds since 1970."""
    try:
        off = abs(float(timestamp) - now)
    except ValueError as error:
        raise CallBackRefusedError("its time is not a number") from error
    if not off <= TOLERANCE_S:
        raise CallBackRefusedError("it is too old, or its sender's clock is wrong")


def standard_webhooks(call_back: CallBack, secret: str, now: float) -> None:
    """Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`; any of the space-separated `v1,` signatures may fit."""
    timestamp = call_back.header("webhook-timestamp")
    fresh(timestamp, now)
    signed = f"{call_back.header('webhook-id')}.{timestamp}.".encode() + call_back.body
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise CallBackRefusedError("our secret is not base64") from error
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = call_back.header("webhook-signature").split(" ")
    if not any(_same(wanted, one.removeprefix("v1,")) for one in given if one.startswith("v1,")):
        raise CallBackRefusedError("its signature does not fit")


def hmac_sha256(call_back: CallBack, header: str, secret: str) -> None:
    """`sha256=<hex>` of the body under a secret."""
    wanted = "sha256=" + hmac.new(secret.encode(), call_back.body, hashlib.sha256).hexdigest()
    if not _same(wanted, call_back.header(header).lower()):
        raise CallBackRefusedError("its signature does not fit")


def _same(wanted: str, given: str) -> bool:
    """In constant time; a header may hold any bytes, which come as surrogates."""
    return hmac.compare_digest(wanted.encode(), given.encode(errors="surrogateescape"))


class Ed25519Keys:
    """A vendor's published Ed25519 keys (JWKS), fetched when needed and kept for a day."""

    def __init__(self, http: HttpClient, url: str, now: Now = time.time) -> None:
        self._http = http
        self._url = url
        self._now = now
        self._keys: tuple[Ed25519PublicKey, ...] = ()
        self._read_at = float("-inf")

    async def verify(self, parts: Sequence[str], signature_hex: str, timestamp: str) -> None:
        """Checks that the parts, joined by line feeds, were signed lately by one of the keys."""
        fresh(timestamp, self._now())
        try:
            signature = bytes.fromhex(signature_hex)
        except ValueError as error:
            raise CallBackRefusedError("its signature is not hex") from error
        message = "\n".join(parts).encode()
        if self._now() - self._read_at > KEYS_FRESH_S:
            await self._read()
        if self._fits(signature, message):
            return
        if self._now() - self._read_at > KEYS_AGAIN_S:  # the vendor may have new keys
            await self._read()
            if self._fits(signature, message):
                return
        raise CallBackRefusedError("its signature does not fit")

    def _fits(self, signature: bytes, message: bytes) -> bool:
        for key in self._keys:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                continue
            return True
        return False

    async def _read(self) -> None:
        try:
            answer = await self._http.send(HttpRequest("GET", self._url, KEYS_TIMEOUT))
            listed = json.loads(answer.body)["keys"]
            self._keys = tuple(Ed25519PublicKey.from_public_bytes(_unpadded(key["x"])) for key in listed)
        except (HttpError, ValueError, KeyError, TypeError) as error:
            raise CallBackRefusedError("the vendor's keys cannot be read now") from error
        self._read_at = self._now()


def body_digest(body: bytes) -> str:
    """SHA-256 of a body in hex, as the Ed25519 schemes sign it."""
    return hashlib.sha256(body).hexdigest()


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
