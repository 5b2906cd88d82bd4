"""Limits are kept before the vendor has to say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.presence import FORGOTTEN_S, Presence
from services.router.providers.base import ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.pacing import BURST_S, Allowance, Paced
from services.router.providers.rates import RateHint
from tests.router.providers.harness_base import Heard
from tests.router.rig import Clock, ScriptedProvider

CALL = ProviderCall("att_1", "acme", "vendor-model", "a fox", 600.0)


@given(per_minute=st.integers(1, 600), workers=st.integers(1, 8), calls=st.integers(1, 60))
async def test_no_minute_sees_more_than_the_share_and_its_burst(per_minute: int, workers: int, calls: int) -> None:
    clock = Clock()
    allowance = Allowance(per_minute, lambda: workers, clock)
    sent = []
    for _ in range(calls):
        clock.now += allowance.wait
        allowance.take()
        sent.append(clock.now)
    burst = max(BURST_S * per_minute / 60 / workers, 1)
    for start in sent:
        assert sum(start <= time < start + 60 for time in sent) <= per_minute / workers + burst + 1


async def test_without_a_limit_nobody_waits() -> None:
    clock = Clock()
    paced = Paced(ScriptedProvider("one"), Allowance(0, clock=clock), clock.sleep)
    for _ in range(5):
        await paced.submit(CALL, Heard())
    assert clock.slept == []


async def test_a_wait_beyond_half_of_the_call_s_time_is_a_rate_limit() -> None:
    clock, inner = Clock(), ScriptedProvider("one")
    paced = Paced(inner, Allowance(1, clock=clock), clock.sleep)
    short = replace(CALL, timeout=30.0)
    await paced.submit(short, Heard())
    with pytest.raises(ProviderError) as caught:
        await paced.submit(short, Heard())
    assert caught.value.kind is ErrorKind.RATE_LIMITED
    assert caught.value.retry_after == pytest.approx(60.0)
    assert len(inner.calls) == 1


@pytest.mark.parametrize(
    ("hint", "pause"),
    [
        (RateHint(requests_left=100, requests_reset=10.0), 0.0),
        (RateHint(requests_left=0, requests_reset=10.0), 10.0),
        (RateHint(requests_left=0, requests_reset=80_000.0), 60.0),
        (RateHint(requests_left=4, requests_reset=80_000.0), 60.0),
        (RateHint(tokens_left=0, tokens_reset=80_000.0), 60.0),
        (RateHint(requests_left=4, requests_reset=10.0), 2.0),
        (RateHint(requests_left=0), 1.0),
        (RateHint(tokens_left=0, tokens_reset=3.0), 3.0),
        (None, 0.0),
    ],
)
async def test_what_an_answer_tells_slows_the_next_call_down(hint: RateHint | None, pause: float) -> None:
    clock, inner = Clock(), ScriptedProvider("one")

    async def telling(call: ProviderCall) -> ProviderResult:
        return replace(inner._draw(call, "draw"), rate=hint)

    inner.script = [telling]
    paced = Paced(inner, Allowance(clock=clock), clock.sleep)
    await paced.submit(CALL, Heard())
    await paced.submit(CALL, Heard())
    assert sum(clock.slept) == pytest.approx(pause)


async def test_workers_are_counted_by_their_signals() -> None:
    clock = Clock()
    presence = Presence("w1", lambda _subject, _payload: None, clock)
    assert presence.count() == 1
    await presence.heard("worker.w2", b"")
    await presence.heard("worker.w1", b"")
    assert presence.count() == 2
    clock.now += FORGOTTEN_S + 1
    assert presence.count() == 1
