"""Several accounts at one provider, used as one: dedicated capacity first, then whoever is least busy.

An account that was turned away (key, credit, rate) rests, and the next one is asked within the same order: nothing was
taken on, so nothing is charged twice. Any other failure, and any after the order was taken, goes to the fallback.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from services.router.providers.base import Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.webhooks import CallBack, CallBackRefusedError

RESTS = {ErrorKind.AUTHENTICATION: 60.0, ErrorKind.QUOTA: 60.0, ErrorKind.RATE_LIMITED: 1.0}
"""Seconds an account rests after being turned away, unless the vendor names a time."""


@dataclass
class Member:
    """One account, ready to be used. `slots`: calls at once."""

    name: str
    provider: Provider
    slots: int
    dedicated: bool = False
    busy: int = 0
    rests_until: float = 0.0

    @property
    def load(self) -> tuple[bool, float]:
        """What is asked first: dedicated capacity while it has room, then the least busy."""
        full = self.busy >= self.slots
        return (not self.dedicated or full, self.busy / self.slots)


class _Noting:
    """Passes everything on to a listener, and notes whether the order was taken."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.taken = False
        self.chosen = listener.chosen
        self.progress = listener.progress
        self.preview = listener.preview
        self.woken = listener.woken

    async def accepted(self, provider_request_id: str) -> None:
        """See `Listener`."""
        self.taken = True
        await self._listener.accepted(provider_request_id)


class Accounts(Provider):
    """See the module. With one account it only passes on."""

    def __init__(self, members: Sequence[Member], clock: Callable[[], float] = time.monotonic) -> None:
        """At least one member; all speak to the same provider in the same variant."""
        self.name = members[0].provider.name
        self._members = {member.name: member for member in members}
        self._clock = clock

    @property
    def capabilities(self) -> Capabilities:
        """The first account's; they are alike."""
        return self._first.provider.capabilities

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """See `Provider.submit`."""
        ends, turned_away = self._clock() + call.timeout, None
        for member in self._in_order():
            listener.chosen(member.name)
            noting = _Noting(listener)
            try:
                left = replace(call, timeout=max(ends - self._clock(), 0.0))
                return await self._busy(member, member.provider.submit(left, noting))
            except ProviderError as error:
                if error.kind not in RESTS or len(self._members) == 1 or noting.taken:
                    raise
                member.rests_until = self._clock() + (error.retry_after or RESTS[error.kind])
                turned_away = _milder(turned_away, error)
        raise turned_away or self._all_rest()

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`; at the account of `call.account`."""
        member = self._members.get(call.account, self._first)
        return await self._busy(member, member.provider.resume(call, provider_request_id, listener))

    def order_id(self, attempt_id: str) -> str:
        """See `Provider.order_id`; none where several accounts might have taken the order, and only one knows it."""
        return self._first.provider.order_id(attempt_id) if len(self._members) == 1 else ""

    def at(self, account: str) -> Provider:
        """See `Provider.at`; the first account where the name is not known any more."""
        return self._members.get(account, self._first).provider.at(account)

    async def check(self) -> str:
        """Every account's answer."""
        if len(self._members) == 1:
            return await self._first.provider.check()
        return "; ".join([f"{member.name}: {await member.provider.check()}" for member in self._members.values()])

    async def verify(self, call_back: CallBack) -> str:
        """By the secret of any account: an address does not tell which one was chosen."""
        refused: CallBackRefusedError | None = None
        for member in self._members.values():
            try:
                return await member.provider.verify(call_back)
            except CallBackRefusedError as error:
                refused = refused or error
        raise refused or CallBackRefusedError("there is no account")

    async def close(self) -> None:
        """Closes every account."""
        for member in self._members.values():
            await member.provider.close()

    async def _busy(self, member: Member, calling: Awaitable[ProviderResult]) -> ProviderResult:
        member.busy += 1
        try:
            return await calling
        finally:
            member.busy -= 1

    def _in_order(self) -> list[Member]:
        now = self._clock()
        awake = [member for member in self._members.values() if member.rests_until <= now]
        return sorted(awake, key=lambda member: member.load)

    def _all_rest(self) -> ProviderError:
        until = min(member.rests_until for member in self._members.values())
        wait = max(until - self._clock(), 0.0)
        return ProviderError(ErrorKind.RATE_LIMITED, f"every account at {self.name} rests", retry_after=wait)

    @property
    def _first(self) -> Member:
        return next(iter(self._members.values()))


def _milder(first: ProviderError | None, second: ProviderError) -> ProviderError:
    """Of two ways to be turned away, the one after which asking again may help soonest."""
    if first is None or second.kind is ErrorKind.RATE_LIMITED:
        return second
    return first
