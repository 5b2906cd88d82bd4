"""What stands around every adapter, one concern each, with the adapter's own face.

`Traced(Breaking(Accounts(Paced(Limited(adapter)), …)))`: span and breaker for the provider, limits for each account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from mesh import telemetry
from services.router.breaker import BreakerKey, Breakers
from services.router.providers.base import Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError, treatment
from services.router.providers.slots import Slots
from services.router.providers.webhooks import CallBack

log = telemetry.logger(__name__)
SHORTEST_KEEP_OFF = 1.0
"""Seconds to stay away after a rate limit that names no time."""

Proceed = Callable[[ProviderCall], Awaitable[ProviderResult]]


class Wrapper(Provider):
    """Passes everything on; a concern overrides what it is about."""

    def __init__(self, inner: Provider) -> None:
        self.name = inner.name
        self._inner = inner

    @property
    def capabilities(self) -> Capabilities:
        """The adapter's."""
        return self._inner.capabilities

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """See `Provider.submit`."""
        return await self._around(call, lambda current: self._inner.submit(current, listener))

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`."""
        return await self._around(call, lambda current: self._inner.resume(current, provider_request_id, listener))

    def order_id(self, attempt_id: str) -> str:
        """See `Provider.order_id`."""
        return self._inner.order_id(attempt_id)

    async def cancel(self, provider_request_id: str) -> bool:
        """See `Provider.cancel`."""
        return await self._inner.cancel(provider_request_id)

    async def check(self) -> str:
        """See `Provider.check`."""
        return await self._inner.check()

    async def verify(self, call_back: CallBack) -> str:
        """See `Provider.verify`."""
        return await self._inner.verify(call_back)

    def at(self, account: str) -> Provider:
        """See `Provider.at`."""
        return self._inner.at(account)

    async def close(self) -> None:
        """See `Provider.close`."""
        await self._inner.close()

    async def _around(self, call: ProviderCall, proceed: Proceed) -> ProviderResult:
        return await proceed(call)


class Limited(Wrapper):
    """At most so many calls at once. Others wait for up to half of their time, so that half is left for the call."""

    def __init__(self, inner: Provider, slots: Slots) -> None:
        super().__init__(inner)
        self._slots = slots

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`. The vendor has the order already: it counts, and waits for nobody."""
        self._slots.take()
        try:
            return await self._inner.resume(call, provider_request_id, listener)
        finally:
            self._slots.release()

    async def _around(self, call: ProviderCall, proceed: Proceed) -> ProviderResult:
        if self._slots.free:
            self._slots.take()
        else:
            call = await self._wait(call)
        try:
            return await proceed(call)
        finally:
            self._slots.release()

    async def _wait(self, call: ProviderCall) -> ProviderCall:
        """The call, with the time that the wait has left it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(call.timeout / 2):  # wait_for may swallow a cancel, and the call would go out
                await self._slots.acquire()
        except TimeoutError as error:
            raise ProviderError(ErrorKind.RATE_LIMITED, f"no free slot at {self.name} in time") from error
        return replace(call, timeout=call.timeout - (time.monotonic() - began))


class Breaking(Wrapper):
    """Keeps calls away from a provider's model that keeps failing."""

    def __init__(self, inner: Provider, breakers: Breakers) -> None:
        super().__init__(inner)
        self._breakers = breakers

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`. What was ordered is asked about whatever the breaker says: it may be paid for."""
        return await self._inner.resume(call, provider_request_id, listener)

    async def _around(self, call: ProviderCall, proceed: Proceed) -> ProviderResult:
        key = BreakerKey(self.name, call.model_id or call.model)
        entry = self._breakers.enter(key)
        if entry is None:
            raise ProviderError(
                ErrorKind.UNREACHABLE, f"{self.name} was left alone", retry_after=self._breakers.wait(key)
            )
        healthy: bool | None = None
        try:
            result = await proceed(call)
            healthy = True
            return result
        except ProviderError as error:
            healthy = False if treatment(error.kind, replay_safe=False).breaks else None
            if error.kind is ErrorKind.RATE_LIMITED:
                self._breakers.keep_off(key, error.retry_after or SHORTEST_KEEP_OFF)
            raise
        finally:
            self._breakers.leave(key, entry, healthy)


class Traced(Wrapper):
    """One client span and one measured duration per call, by the GenAI semantic conventions. No prompt, ever.

    A failure that an operator has to mend is logged as well.
    """

    def __init__(self, inner: Provider) -> None:
        super().__init__(inner)
        self._durations = telemetry.histogram("gen_ai.client.operation.duration", "s", "Duration of provider calls.")

    async def _around(self, call: ProviderCall, proceed: Proceed) -> ProviderResult:
        attributes: dict[str, telemetry.Value] = {
            "gen_ai.operation.name": "image_generation",
            "gen_ai.provider.name": self.name,
            "gen_ai.request.model": call.model,
            "gen_ai.request.choice.count": call.count,
            "imagemesh.attempt.id": call.attempt_id,
        }
        if call.seed is not None:
            attributes["gen_ai.request.seed"] = call.seed
        began, outcome = time.monotonic(), ""
        with telemetry.span(f"image_generation {call.model}", kind="client", attributes=attributes) as span:
            try:
                result = await proceed(call)
            except ProviderError as error:
                outcome = error.kind.value
                span.set("error.type", outcome)
                span.set("gen_ai.response.id", error.provider_request_id)
                if treatment(error.kind, replay_safe=False).alert:
                    log.error("provider needs an operator", provider=self.name, kind=outcome, message=error.message)
                raise
            finally:
                self._durations.record(time.monotonic() - began, self._labels(call, outcome))
            span.set("gen_ai.response.id", result.provider_request_id)
            span.set("gen_ai.response.model", result.model_version or call.model)
            return result

    def _labels(self, call: ProviderCall, outcome: str) -> dict[str, str]:
        labels = {
            "gen_ai.operation.name": "image_generation",
            "gen_ai.provider.name": self.name,
            "gen_ai.request.model": call.model,
        }
        return {**labels, "error.type": outcome} if outcome else labels


def wrapped(accounts: Provider, breakers: Breakers) -> Provider:
    """A provider as the fallback sees it. Its accounts have their own limits inside."""
    return Traced(Breaking(accounts, breakers))
