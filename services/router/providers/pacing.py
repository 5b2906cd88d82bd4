"""Slowing down before a vendor's wall: an account's requests a minute, and what its answers tell is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from services.router.providers.base import Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.rates import RateHint
from services.router.providers.slots import Share, alone
from services.router.providers.wrappers import Proceed, Wrapper

Clock = Callable[[], float]

BURST_S = 5.0
"""How much of a minute's requests may go at once: what falls into this many seconds, at least one."""
NEAR = 5
"""From how few requests left, for each worker, they are spread over the time until the limit is full again."""

LONGEST_PAUSE = 60.0
"""Seconds after which a request finds out, however far off the reset was said to be: it is only a hint."""


class Allowance:
    """One account's limits, this worker's share of them. Not thread-safe: it belongs to one event loop.

    A generic cell rate algorithm (ITU-T I.371): requests are due one interval after another, and may come early by a
    bounded burst.
    """

    def __init__(self, per_minute: int = 0, share: Share = alone, clock: Clock = time.monotonic) -> None:
        """`per_minute`: requests of the whole account, by all workers; 0 is unbounded."""
        self._per_minute = per_minute
        self._share = share
        self._clock = clock
        self._due = 0.0
        self._not_before = 0.0

    @property
    def wait(self) -> float:
        """Seconds until a request may go; 0 = now."""
        now = self._clock()
        early = BURST_S - self._interval if self._per_minute else 0.0
        return max(self._due - max(early, 0.0) - now, self._not_before - now, 0.0)

    def take(self) -> None:
        """A request goes now."""
        if self._per_minute:
            self._due = max(self._due, self._clock()) + self._interval

    def learn(self, hint: RateHint | None) -> None:
        """What the vendor told with an answer."""
        if hint is None:
            return
        pauses = [_pause(hint.requests_left, hint.requests_reset, self._share())]
        if hint.tokens_left == 0:
            pauses.append(hint.tokens_reset or 1.0)
        self._not_before = max(self._not_before, self._clock() + min(max(pauses), LONGEST_PAUSE))

    @property
    def _interval(self) -> float:
        return 60.0 / self._per_minute * max(self._share(), 1)


def _pause(left: int | None, reset: float | None, workers: int) -> float:
    """Seconds to the next request: none while much is left, else what spreads the rest evenly."""
    if left is None or left > NEAR * workers:
        return 0.0
    return (reset or 1.0) / (left // max(workers, 1) + 1)


class Paced(Wrapper):
    """Keeps to an account's allowance. A call waits for up to half of its time, so that half is left for it."""

    def __init__(
        self, inner: Provider, allowance: Allowance, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        super().__init__(inner)
        self.allowance = allowance
        self._sleep = sleep

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`. It orders nothing."""
        return await self._inner.resume(call, provider_request_id, listener)

    async def _around(self, call: ProviderCall, proceed: Proceed) -> ProviderResult:
        waited = 0.0
        while (wait := self.allowance.wait) > 0:
            if waited + wait > call.timeout / 2:
                raise ProviderError(ErrorKind.RATE_LIMITED, f"{self.name}'s limit is reached", retry_after=wait)
            await self._sleep(wait)
            waited += wait
        self.allowance.take()
        try:
            result = await proceed(replace(call, timeout=call.timeout - waited) if waited else call)
        except ProviderError as error:
            self.allowance.learn(error.rate)
            raise
        self.allowance.learn(result.rate)
        return result
