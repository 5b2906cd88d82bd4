"""Breakers: open after failures in a row, probe gently, close on success."""

from __future__ import annotations

import pytest

from services.router.breaker import MOST, Breaker, BreakerConfig, BreakerKey, Breakers, BreakerState
from tests.router.rig import Clock

CONFIG = BreakerConfig(failures=3, cooldown=2.0, longest=10.0, probes=2)
KEY = BreakerKey("one", "m")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(CONFIG, clock)


def call(breaker: Breaker, healthy: bool | None) -> None:
    entry = breaker.enter()
    assert entry is not None
    breaker.leave(entry, healthy)


def opened(breaker: Breaker) -> Breaker:
    for _ in range(CONFIG.failures):
        call(breaker, healthy=False)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_stays_closed_below_the_limit(breaker: Breaker) -> None:
    for _ in range(5):
        call(breaker, healthy=False)
        call(breaker, healthy=False)
        call(breaker, healthy=True)
    assert breaker.state is BreakerState.CLOSED


def test_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    opened(breaker)
    assert breaker.enter() is None
    assert breaker.wait == 2.0


def test_what_says_nothing_changes_nothing(breaker: Breaker) -> None:
    for _ in range(10):
        call(breaker, healthy=None)
    assert breaker.state is BreakerState.CLOSED


def test_half_open_lets_a_few_probes_through(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 2.0
    assert breaker.state is BreakerState.HALF_OPEN
    probes = [breaker.enter() for _ in range(3)]
    assert [probe is not None for probe in probes] == [True, True, False]


def test_a_good_probe_closes(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 2.0
    call(breaker, healthy=True)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.wait == 0


def test_a_bad_probe_reopens_for_longer_up_to_a_limit(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    waits = []
    for _ in range(4):
        clock.now += breaker.wait
        call(breaker, healthy=False)
        waits.append(breaker.wait)
    assert waits == [4.0, 8.0, 10.0, 10.0]


def test_an_unclear_probe_frees_its_place(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 2.0
    for _ in range(10):
        call(breaker, healthy=None)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_call_from_before_does_not_close_it(breaker: Breaker, clock: Clock) -> None:
    old = breaker.enter()
    opened(breaker)
    clock.now += 2.0
    assert old is not None
    breaker.leave(old, healthy=True)
    assert breaker.state is BreakerState.HALF_OPEN


def test_peers_open_it_for_a_time(breaker: Breaker, clock: Clock) -> None:
    breaker.open_for(5.0)
    assert breaker.wait == 5.0
    breaker.open_for(1000.0)
    assert breaker.wait == CONFIG.longest
    clock.now += CONFIG.longest
    call(breaker, healthy=True)
    assert breaker.state is BreakerState.CLOSED


def test_changes_are_told_once(clock: Clock) -> None:
    told: list[tuple[BreakerState, float]] = []
    breakers = Breakers(CONFIG, clock, lambda _key, state, wait, _reason: told.append((state, wait)))
    for healthy in (False, False, False):
        entry = breakers.enter(KEY)
        assert entry is not None
        breakers.leave(KEY, entry, healthy)
    clock.now += 2.0
    entry = breakers.enter(KEY)
    assert entry is not None
    breakers.leave(KEY, entry, healthy=True)
    assert told == [(BreakerState.OPEN, 2.0), (BreakerState.CLOSED, 0.0)]


def test_each_model_has_its_own(clock: Clock) -> None:
    breakers = Breakers(CONFIG, clock)
    breakers.peer_opened(KEY, 5.0)
    assert breakers.wait(KEY) == 5.0
    assert breakers.wait(BreakerKey("one", "other")) == 0.0
    assert breakers.states() == {KEY: BreakerState.OPEN}


def test_made_up_models_do_not_fill_the_memory(clock: Clock) -> None:
    breakers = Breakers(CONFIG, clock)
    for _ in range(CONFIG.failures):
        entry = breakers.enter(KEY)
        assert entry is not None
        breakers.leave(KEY, entry, healthy=False)
    for number in range(2 * MOST):
        other = BreakerKey("one", f"made-up-{number}")
        entry = breakers.enter(other)
        assert entry is not None
        breakers.leave(other, entry, healthy=True)
    assert len(breakers.states()) <= MOST
    assert breakers.wait(KEY) > 0  # an open one is not forgotten for them
