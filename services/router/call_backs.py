"""Addresses at which vendors may call us back about an attempt. Each carries a token that nobody can guess.

The token is bound to provider and attempt, so one address is good for nothing else. It stands in for a signature where
the vendor signs nothing, and keeps noise out where it does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

CallBackAddress = Callable[[str, str], str]
"""The address for (provider, attempt id); empty when nobody can reach us."""

SIGNAL = "hook."
"""Signals to workers begin with it; the attempt's id follows."""
TOKEN_HEX = 32
_PURPOSE = b"imagemesh call back\n"


class CallBackAddresses:
    """Makes and checks addresses. Every router process makes the same ones from the same secret."""

    def __init__(self, secret: str, public_url: str = "") -> None:
        """`public_url`: where vendors reach the API process' hooks port; empty: vendors are told no address."""
        self._key = hashlib.sha256(_PURPOSE + secret.encode()).digest()
        self._public_url = public_url.rstrip("/")

    def address(self, provider: str, attempt_id: str) -> str:
        """See `CallBackAddress`."""
        if not self._public_url:
            return ""
        return f"{self._public_url}/hooks/{provider}/{attempt_id}?t={self._token(provider, attempt_id)}"

    def genuine(self, provider: str, attempt_id: str, token: str) -> bool:
        """Whether we gave this address away."""
        return hmac.compare_digest(self._token(provider, attempt_id).encode(), token.encode())

    def _token(self, provider: str, attempt_id: str) -> str:
        message = f"{provider}\n{attempt_id}".encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:TOKEN_HEX]
