"""Breakers talk: what one worker learns by failing, its peers are told, for a time."""

from __future__ import annotations

from typing import Any

import pytest

from services.router.breaker import BreakerConfig, BreakerKey, Breakers, BreakerState
from services.router.signals import BreakerTalk
from tests.router.rig import Clock

KEY = BreakerKey("one", "m")


class Tells:
    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []

    def tell(self, subject: str, payload: bytes) -> None:
        self.told.append((subject, payload))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opening(clock: Clock, seconds: float) -> bytes:
    tells: Any = Tells()
    BreakerTalk(tells, clock).changed(KEY, BreakerState.OPEN, seconds)
    ((subject, payload),) = tells.told
    assert subject == "breaker.one"
    return bytes(payload)


def test_an_opening_opens_the_peers_as_long(clock: Clock) -> None:
    payload = opening(clock, 8.0)
    breakers, tells = Breakers(BreakerConfig(), clock), Tells()
    talk = BreakerTalk(tells, clock)  # type: ignore[arg-type]
    clock.now += 3.0
    talk.heard(breakers, payload)
    assert breakers.wait(KEY) == pytest.approx(5.0)
    assert tells.told == []  # what was heard is not told on


@pytest.mark.parametrize("late", [8.0, 100.0])
def test_a_late_opening_is_over(clock: Clock, late: float) -> None:
    payload = opening(clock, 8.0)
    breakers = Breakers(BreakerConfig(), clock)
    clock.now += late
    BreakerTalk(Tells(), clock).heard(breakers, payload)  # type: ignore[arg-type]
    assert breakers.wait(KEY) == 0.0


@pytest.mark.parametrize("payload", [b"", b"\xff\xff garbage"])
def test_garbage_is_not_heard(clock: Clock, payload: bytes) -> None:
    breakers = Breakers(BreakerConfig(), clock)
    BreakerTalk(Tells(), clock).heard(breakers, payload)  # type: ignore[arg-type]
    assert breakers.states() == {}
