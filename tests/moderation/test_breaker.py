"""The breaker in front of a hosted classifier."""

from __future__ import annotations

from services.moderation.breaker import COOLDOWN, FAILURES, LONGEST, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def call(breaker: Breaker, healthy: bool | None) -> None:
    entry = breaker.enter()
    assert entry is not None
    breaker.leave(entry, healthy)


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        call(breaker, False)
    return breaker


def test_too_many_failures_in_a_row_open_it() -> None:
    breaker = opened(Clock())
    assert breaker.is_open
    assert breaker.enter() is None
    assert breaker.wait == COOLDOWN


def test_a_success_between_starts_the_count_anew() -> None:
    breaker = Breaker(Clock())
    for outcome in [*[False] * (FAILURES - 1), True, *[False] * (FAILURES - 1)]:
        call(breaker, outcome)
    assert not breaker.is_open


def test_what_says_nothing_counts_for_nothing() -> None:
    breaker = Breaker(Clock())
    for outcome in [*[False] * (FAILURES - 1), None, None]:
        call(breaker, outcome)
    assert not breaker.is_open


def test_one_probe_at_a_time_finds_out() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += COOLDOWN
    probe = breaker.enter()
    assert probe is not None
    assert breaker.enter() is None
    breaker.leave(probe, True)
    assert not breaker.is_open
    assert breaker.enter()


def test_failed_probes_double_the_wait_up_to_a_minute() -> None:
    clock = Clock()
    breaker = opened(clock)
    waits = []
    for _ in range(8):
        waits.append(breaker.wait)
        clock.now += breaker.wait
        call(breaker, False)
    assert waits == [COOLDOWN, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]


def test_a_probe_that_was_canceled_lets_another_through() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += COOLDOWN
    call(breaker, None)
    assert breaker.enter()


def test_calls_that_were_under_way_when_it_opened_do_not_lengthen_it() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    under_way = [breaker.enter() for _ in range(3 * FAILURES)]
    for entry in under_way:
        assert entry is not None
        breaker.leave(entry, False)
    assert breaker.wait == COOLDOWN
