"""What stands around every adapter, one concern each, with the adapter's own face: `Traced(Breaking(Limited(x)))`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mesh import telemetry
from services.router.breaker import BreakerKey, Breakers
from services.router.providers.base import Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError, treatment


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
        return await self._around(call, lambda: self._inner.submit(call, listener))

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        """See `Provider.resume`."""
        return await self._around(call, lambda: self._inner.resume(call, provider_request_id, listener))

    async def cancel(self, provider_request_id: str) -> None:
        """See `Provider.cancel`."""
        await self._inner.cancel(provider_request_id)

    async def close(self) -> None:
        """See `Provider.close`."""
        await self._inner.close()

    async def _around(self, call: ProviderCall, proceed: Callable[[], Awaitable[ProviderResult]]) -> ProviderResult:
        return await proceed()


class Limited(Wrapper):
    """At most so many calls at once; others wait, at most as long as their own time allows."""

    def __init__(self, inner: Provider, concurrency: int) -> None:
        super().__init__(inner)
        self._slots = asyncio.Semaphore(concurrency)

    async def _around(self, call: ProviderCall, proceed: Callable[[], Awaitable[ProviderResult]]) -> ProviderResult:
        if self._slots.locked():
            await self._wait(call.timeout)
        else:
            await self._slots.acquire()  # at once
        try:
            return await proceed()
        finally:
            self._slots.release()

    async def _wait(self, timeout: float) -> None:
        try:
            await asyncio.wait_for(self._slots.acquire(), timeout)
        except TimeoutError as error:
            raise ProviderError(ErrorKind.RATE_LIMITED, f"no free slot at {self.name} in time") from error


class Breaking(Wrapper):
    """Keeps calls away from a provider's model that keeps failing."""

    def __init__(self, inner: Provider, breakers: Breakers) -> None:
        super().__init__(inner)
        self._breakers = breakers

    async def _around(self, call: ProviderCall, proceed: Callable[[], Awaitable[ProviderResult]]) -> ProviderResult:
        key = BreakerKey(self.name, call.model_id or call.model)
        entry = self._breakers.enter(key)
        if entry is None:
            raise ProviderError(
                ErrorKind.UNREACHABLE, f"{self.name} is failing; not asked", retry_after=self._breakers.wait(key)
            )
        healthy: bool | None = None
        try:
            result = await proceed()
            healthy = True
            return result
        except ProviderError as error:
            healthy = False if treatment(error.kind, replay_safe=False).breaks else None
            raise
        finally:
            self._breakers.leave(key, entry, healthy)


class Traced(Wrapper):
    """One client span per call, in the terms of the GenAI semantic conventions. No prompt, ever."""

    async def _around(self, call: ProviderCall, proceed: Callable[[], Awaitable[ProviderResult]]) -> ProviderResult:
        attributes: dict[str, telemetry.Value] = {
            "gen_ai.operation.name": "image_generation",
            "gen_ai.provider.name": self.name,
            "gen_ai.request.model": call.model,
            "gen_ai.request.choice.count": call.count,
            "imagemesh.attempt.id": call.attempt_id,
        }
        if call.seed is not None:
            attributes["gen_ai.request.seed"] = call.seed
        with telemetry.span(f"image_generation {call.model}", kind="client", attributes=attributes) as span:
            try:
                result = await proceed()
            except ProviderError as error:
                span.set("error.type", error.kind.value)
                span.set("imagemesh.provider.request_id", error.provider_request_id)
                raise
            span.set("gen_ai.response.id", result.provider_request_id)
            span.set("gen_ai.response.model", result.model_version or call.model)
            return result


def wrapped(adapter: Provider, breakers: Breakers, concurrency: int) -> Provider:
    """The adapter as the fallback sees it."""
    return Traced(Breaking(Limited(adapter, concurrency), breakers))
