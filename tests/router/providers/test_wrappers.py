"""Limits, breakers and spans stand around any adapter and look like one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.router.breaker import BreakerConfig, BreakerKey, Breakers
from services.router.leases import LeaseLost
from services.router.providers.base import Listener, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.slots import Slots
from services.router.providers.wrappers import Limited, wrapped
from tests.router.providers.harness_base import Heard
from tests.router.rig import Clock, ScriptedProvider

KEY = BreakerKey("one", "catalog-model")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(BreakerConfig(failures=2), clock)


def call(timeout: float = 5.0) -> ProviderCall:
    return ProviderCall("att_1", "acme", "vendor-model", "a fox", timeout, model_id="catalog-model")


class Resumable(ScriptedProvider):
    """Takes orders up, and draws them once told to."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.drawn = asyncio.Event()
        self._resumed = 0

    async def until_resumed(self, times: int) -> None:
        async with self.asked:
            await self.asked.wait_for(lambda: self._resumed >= times)

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        async with self.asked:
            self._resumed += 1
            self.asked.notify_all()
        await self.drawn.wait()
        return self._draw(call, "draw")


async def refused(provider: ScriptedProvider, breakers: Breakers) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await wrapped(provider, breakers).submit(call(), Heard())
    return caught.value


async def test_a_healthy_call_passes_through(breakers: Breakers) -> None:
    inner = ScriptedProvider("one")
    outer = wrapped(inner, breakers)
    assert (outer.name, outer.capabilities) == (inner.name, inner.capabilities)
    assert len((await outer.submit(call(), Heard())).images) == 1


async def test_failures_open_the_breaker_of_the_catalog_s_model(breakers: Breakers) -> None:
    inner = ScriptedProvider("one")
    inner.script = [ErrorKind.OVERLOADED, ErrorKind.UNKNOWN_OUTCOME]
    await refused(inner, breakers)
    await refused(inner, breakers)
    assert breakers.wait(KEY) > 0
    kept_away = await refused(inner, breakers)
    assert (kept_away.kind, len(inner.calls)) == (ErrorKind.UNREACHABLE, 2)


@pytest.mark.parametrize("kind", [ErrorKind.REFUSED, ErrorKind.BAD_REQUEST])
async def test_what_is_the_caller_s_fault_opens_nothing(breakers: Breakers, kind: ErrorKind) -> None:
    inner = ScriptedProvider("one")
    inner.script = [kind] * 5
    for _ in range(5):
        await refused(inner, breakers)
    assert breakers.wait(KEY) == 0


async def test_a_rate_limit_keeps_everybody_off_as_long_as_asked(breakers: Breakers, clock: Clock) -> None:
    inner = ScriptedProvider("one")
    inner.script = [ProviderError(ErrorKind.RATE_LIMITED, "slow down", retry_after=7.0)]
    await refused(inner, breakers)
    assert breakers.wait(KEY) == 7.0
    await refused(inner, breakers)
    assert len(inner.calls) == 1
    clock.now += 7.0
    assert len((await wrapped(inner, breakers).submit(call(), Heard())).images) == 1


async def test_a_full_provider_is_waited_for_within_the_call_s_time() -> None:
    inner = ScriptedProvider("one")
    inner.script = ["hang"]
    limited = Limited(inner, Slots(1))
    first = asyncio.create_task(limited.submit(call(), Heard()))
    await inner.until_asked()
    with pytest.raises(ProviderError) as caught:
        await limited.submit(call(timeout=0.05), Heard())
    assert caught.value.kind is ErrorKind.RATE_LIMITED
    late = asyncio.create_task(limited.submit(call(timeout=60.0), Heard()))
    await asyncio.sleep(0.02)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await late
    assert 30 < inner.calls[-1].timeout <= 60 - 0.01
    assert len((await limited.submit(call(), Heard())).images) == 1


async def test_the_last_check_comes_after_the_wait_for_a_slot() -> None:
    inner = ScriptedProvider("one")
    inner.script = ["hang"]
    limited = Limited(inner, Slots(1))
    busy = asyncio.create_task(limited.submit(call(), Heard()))
    await inner.until_asked()

    def lease_is_gone() -> None:
        raise LeaseLost("the lease is about to end")

    late = asyncio.create_task(limited.submit(replace(call(), before_sending=lease_is_gone), Heard()))
    await asyncio.sleep(0)
    busy.cancel()
    with pytest.raises(LeaseLost):
        await late
    assert len(inner.calls) == 1
    assert len((await limited.submit(call(), Heard())).images) == 1  # the slot is free again


async def test_an_account_s_calls_at_once_are_shared_by_the_workers_and_each_has_one() -> None:
    workers = 2
    slots = Slots(4, lambda: workers)
    for _ in range(2):
        await slots.acquire()
    assert not slots.free
    waiting = asyncio.create_task(slots.acquire())
    await asyncio.sleep(0)
    workers = 9
    slots.release()
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.release()
    await waiting
    assert slots.busy == 1


async def test_an_order_that_is_taken_up_counts_and_waits_for_nobody() -> None:
    vendor = Resumable("one")
    limited = Limited(vendor, Slots(1))
    first = asyncio.create_task(limited.resume(call(), "vendor-1", Heard()))
    second = asyncio.create_task(limited.resume(call(), "vendor-2", Heard()))
    await vendor.until_resumed(2)
    late = asyncio.create_task(limited.submit(call(60.0), Heard()))
    await asyncio.sleep(0)
    assert not vendor.calls
    vendor.drawn.set()
    await asyncio.gather(first, second, late)
    assert len(vendor.calls) == 1


@pytest.mark.parametrize("turns", range(6))
async def test_a_call_that_is_broken_off_as_its_slot_gets_free_is_not_made(turns: int) -> None:
    inner = ScriptedProvider("one")
    inner.script = ["hang"]
    provider = Limited(inner, Slots(1))
    holding = asyncio.create_task(provider.submit(call(60.0), Heard()))
    await inner.until_asked()
    waiting = asyncio.create_task(provider.submit(call(60.0), Heard()))
    for _ in range(9):
        await asyncio.sleep(0)
    holding.cancel()
    for _ in range(turns):  # of the loop
        await asyncio.sleep(0)
    if not waiting.done() and len(inner.calls) == 1:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(inner.calls) == 1
    await asyncio.gather(holding, waiting, return_exceptions=True)
    assert (await provider.submit(call(), Heard())).images  # and no slot is lost


async def test_an_open_breaker_keeps_nobody_from_an_order_that_was_placed(breakers: Breakers) -> None:
    inner = Taken("one")
    breakers.trip(KEY, 60, "test")
    assert (await wrapped(inner, breakers).resume(call(), "vendor-1", Heard())).provider_request_id == "vendor-1"
    inner.fails = True
    with pytest.raises(ProviderError) as caught:
        await wrapped(inner, breakers).resume(call(), "vendor-1", Heard())
    assert caught.value.kind is ErrorKind.UNKNOWN_OUTCOME


class Taken(ScriptedProvider):
    """Knows its orders by their id."""

    fails = False

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        if self.fails:
            raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, "not in time")
        return ProviderResult((), provider_request_id)
