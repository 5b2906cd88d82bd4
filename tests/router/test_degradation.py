"""A provider that gets worse without failing: each sign, and what is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pyvips

from services.router.breaker import BreakerConfig, BreakerKey, Breakers, BreakerState
from services.router.degradation import Degradation, Drawn, Sign
from services.router.providers.base import ProviderCall, ProviderImage, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.watching import Degradations, Watched, is_blank, may_be_blank
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import Heard
from tests.router.rig import Clock, ScriptedProvider

KEY = BreakerKey("one", "m")


def drawn(request: int, digest: int, *, blank: bool = False) -> Drawn:
    return Drawn(request, digest.to_bytes(4, "big"), blank)


def test_half_of_the_calls_failing_is_a_sign_though_never_two_in_a_row() -> None:
    lately = Degradation()
    found = [lately.failed() if turn % 2 else lately.answered(1.0) for turn in range(20)]
    assert found[:-1] == [None] * 19
    assert found[-1] is Sign.ERRORS


def test_fewer_failures_are_none() -> None:
    lately = Degradation()
    assert not any(lately.failed() if turn % 3 == 0 else lately.answered(1.0) for turn in range(100))


def test_a_shift_of_latency_is_a_sign() -> None:
    lately = Degradation()
    assert not any(lately.answered(2.0) for _ in range(60))
    found = [lately.answered(9.0) for _ in range(10)]
    assert Sign.LATENCY in found
    assert found.index(Sign.LATENCY) >= 5  # a few slow calls are not a shift


@pytest.mark.parametrize(("before", "after"), [(2.0, 7.0), (0.1, 4.0)])
def test_a_little_slower_or_still_quick_is_none(before: float, after: float) -> None:
    lately = Degradation()
    assert not any(lately.answered(before) for _ in range(60))
    assert not any(lately.answered(after) for _ in range(30))


def test_blank_pictures_for_different_requests_are_a_sign() -> None:
    lately = Degradation()
    assert [lately.drew(drawn(number, number, blank=True)) for number in range(3)] == [None, None, Sign.BLANK]


def test_one_caller_who_wants_blank_pictures_is_none() -> None:
    lately = Degradation()
    assert not any(lately.drew(drawn(7, number, blank=True)) for number in range(50))


def test_the_same_picture_for_different_requests_is_a_sign() -> None:
    lately = Degradation()
    assert [lately.drew(drawn(number, 5)) for number in range(3)] == [None, None, Sign.CONSTANT]


def test_the_same_request_may_get_the_same_picture() -> None:
    lately = Degradation()
    assert not any(lately.drew(drawn(7, 5)) for _ in range(50))


def test_a_finding_is_told_once() -> None:
    lately = Degradation()
    found = [lately.drew(drawn(number, 5)) for number in range(4)]
    assert found.count(Sign.CONSTANT) == 1


def flat(side: int, value: int) -> bytes:
    picture = pyvips.Image.black(side, side, bands=3) + value
    return bytes(picture.cast("uchar").copy(interpretation="srgb").write_to_buffer(".png"))


@pytest.mark.parametrize(("data", "blank"), [(flat(512, 0), True), (flat(512, 200), True), (draw(256, 5), False)])
def test_only_pictures_of_one_colour_are_blank(data: bytes, blank: bool) -> None:
    assert is_blank(data) is blank


@pytest.mark.parametrize(
    ("data", "looked_at"),
    [(flat(512, 200), True), (draw(256, 5), False), (b"\xff\xd8\xff" + bytes(100), True)],
    ids=["flat", "much on it", "no PNG, few bytes"],
)
def test_pictures_with_too_many_bytes_to_be_blank_are_not_decoded(data: bytes, looked_at: bool) -> None:
    assert may_be_blank(data) is looked_at


@pytest.mark.parametrize("data", [b"no picture", flat(1024, 90)[:-100]], ids=["no picture", "truncated"])
def test_what_cannot_be_read_is_not_blank(data: bytes) -> None:
    assert not is_blank(data)


async def test_a_provider_that_draws_blanks_is_left_alone_and_its_peers_hear_why() -> None:
    told: list[tuple[BreakerKey, BreakerState, str]] = []
    clock, inner = Clock(), ScriptedProvider("one")
    breakers = Breakers(BreakerConfig(), clock, lambda key, state, _wait, why: told.append((key, state, why)))
    provider = Watched(inner, Degradations(breakers), clock)

    async def blank(call: ProviderCall) -> ProviderResult:
        return ProviderResult((ProviderImage(flat(256, len(inner.calls)), "image/png"),))

    inner.script = [blank] * 3
    call = ProviderCall("att_1", "acme", "vendor-model", "a fox", 5.0, model_id="m")
    for seed in range(3):
        assert breakers.wait(KEY) == 0
        await provider.submit(replace(call, seed=seed), Heard())
    assert breakers.wait(KEY) == 60
    assert told == [(KEY, BreakerState.OPEN, "degraded: blank")]


@pytest.mark.parametrize("kind", [ErrorKind.REFUSED, ErrorKind.UNREACHABLE])
async def test_neither_the_caller_s_fault_nor_a_restart_is_a_sign(kind: ErrorKind) -> None:
    clock, inner = Clock(), ScriptedProvider("one")
    breakers = Breakers(BreakerConfig(), clock)
    provider = Watched(inner, Degradations(breakers), clock)
    inner.script = [kind] * 30
    for _ in range(30):
        with pytest.raises(ProviderError):
            await provider.submit(ProviderCall("att_1", "acme", "v", "a fox", 5.0, model_id="m"), Heard())
    assert breakers.wait(KEY) == 0
