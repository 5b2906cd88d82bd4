"""Moderation's seal on a verdict that lets one asset's bytes out, so that storage need not ask for the verdict again.

An HMAC-SHA256 under a key that moderation and storage share and nobody else has: who carries a seal from the one to the
other can neither make one nor change it. Where a seal is missing, late or wrong, storage asks as if there were none.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field

CONTEXT = b"imagemesh.verdict.v1\n"  # keeps these seals apart from any other use of the same key
GOOD_FOR_S = 60
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Let:
    """What a seal says: under this verdict these bytes may be let out as this asset of the tenant."""

    tenant: str
    asset_id: str
    verdict_id: str
    sha256: str


@dataclass(frozen=True)
class Sealer:
    """Makes and reads seals. An empty key makes none and trusts none. `clock`: Unix seconds."""

    key: bytes = field(default=b"", repr=False)
    clock: Callable[[], float] = time.time

    @classmethod
    def parse(cls, text: str) -> Sealer:
        """From hex; empty gives none. Raises ValueError without repeating the secret."""
        try:
            key = bytes.fromhex(text)
        except ValueError:
            raise ValueError("must be written in hex") from None
        if key and len(key) < KEY_BYTES:
            raise ValueError(f"needs at least {KEY_BYTES} bytes")
        return cls(key)

    def seal(self, let: Let) -> str:
        """The seal, good for a minute; empty without a key."""
        if not self.key:
            return ""
        expires = int(self.clock()) + GOOD_FOR_S
        return f"{expires}.{let.sha256}.{self._mac(let, expires)}"

    def sha256_of(self, seal: str, tenant: str, asset_id: str, verdict_id: str) -> str | None:
        """The hash of the bytes that the seal lets out as this asset under this verdict; None if it does not hold."""
        expires, _, rest = seal.partition(".")
        sha256, _, mac = rest.partition(".")
        if not (self.key and mac and expires.isascii() and expires.isdigit()) or self.clock() >= int(expires):
            return None
        made = self._mac(Let(tenant, asset_id, verdict_id, sha256), int(expires))
        return sha256 if hmac.compare_digest(made.encode(), mac.encode()) else None

    def _mac(self, let: Let, expires: int) -> str:
        parts = (let.tenant, let.asset_id, let.verdict_id, let.sha256, str(expires))
        said = b"".join(b"%d:%b" % (len(part), part) for part in map(str.encode, parts))
        return hmac.new(self.key, CONTEXT + said, hashlib.sha256).hexdigest()
