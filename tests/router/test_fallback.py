"""The fallback's promises: its error table, and what no sequence of failures may ever lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.choices import Choice, Delivered, Failed, GaveUp, Later, Wanted
from services.router.fallback import Fallback, History, allowance, owed
from services.router.providers.base import ProviderImage, ProviderResult
from services.router.providers.errors import FOREVER, TREATMENTS, ErrorKind, treatment
from tests.router.rig import Clock

ONE = Choice("one", "m", max_count=4)
TWO = Choice("two", "m", max_count=4)
OWN = Choice("own", "m", max_count=4, replay_safe=True)
E = ErrorKind
Turn = ErrorKind | int
"""A failure, or how many pictures come."""


class Providers:
    """Answers by script, then delivers all that is asked."""

    def __init__(self, scripts: dict[str, list[Turn]]) -> None:
        self.scripts = scripts
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    async def ask(self, choice: Choice, indices: tuple[int, ...]) -> Delivered | Failed:
        self.asked.append((choice.provider, indices))
        script = self.scripts.get(choice.provider, [])
        turn = script.pop(0) if script else len(indices)
        if isinstance(turn, ErrorKind):
            return Failed(choice.provider, choice.model, turn, "no", 3.0 if turn is E.RATE_LIMITED else None)
        came = indices[: max(1, min(turn, len(indices)))]
        image = ProviderImage(b"", "image/png")
        return Delivered("att", choice, came, ProviderResult((image,) * len(came)))


def loop(clock: Clock, gate: Callable[[Choice], float] = lambda _: 0.0) -> Fallback:
    return Fallback(gate, clock, clock.sleep, jitter=lambda _low, high: high)


async def obtain(
    scripts: dict[str, list[Turn]],
    choices: Sequence[Choice] = (ONE, TWO),
    missing: tuple[int, ...] = (0,),
    seconds: float = 600.0,
) -> tuple[Delivered | Later | GaveUp, list[str]]:
    clock, providers = Clock(), Providers(scripts)
    wanted = Wanted(choices, missing, clock() + seconds)
    answer = await loop(clock).obtain(wanted, History(), providers.ask)
    return answer, [name for name, _ in providers.asked]


TABLE = [
    (E.BAD_REQUEST, 1, True),
    (E.REFUSED, 1, False),
    (E.AUTHENTICATION, 1, True),
    (E.QUOTA, 1, True),
    (E.RATE_LIMITED, 1, True),
    (E.UNREACHABLE, 2, True),
    (E.OVERLOADED, 3, True),
    (E.TIMEOUT, 1, True),
    (E.UNKNOWN_OUTCOME, 1, True),
    (E.BROKEN_ANSWER, 1, True),
]


@pytest.mark.parametrize(("kind", "tries", "goes_on"), TABLE)
async def test_the_error_table(kind: ErrorKind, tries: int, goes_on: bool) -> None:
    answer, asked = await obtain({"one": [kind] * 50})
    assert asked == ["one"] * tries + ["two"] * goes_on
    assert isinstance(answer, Delivered) is goes_on


def test_the_table_covers_every_class() -> None:
    assert {kind for kind, _, _ in TABLE} == set(ErrorKind) == set(TREATMENTS)


async def test_an_unknown_outcome_may_be_repeated_where_that_is_safe() -> None:
    answer, asked = await obtain({"own": [E.UNKNOWN_OUTCOME]}, choices=(OWN,))
    assert isinstance(answer, Delivered)
    assert asked == ["own", "own"]


async def test_pauses_are_jittered_and_grow() -> None:
    clock, providers = Clock(), Providers({"one": [E.OVERLOADED] * 2})
    await loop(clock).obtain(Wanted((ONE,), (0,), clock() + 600), History(), providers.ask)
    assert clock.slept == [0.25, 0.5]


async def test_waiting_too_long_is_left_to_the_caller() -> None:
    answer, _ = await obtain({"one": [E.RATE_LIMITED] * 9}, choices=(ONE,))
    assert answer == Later(3.0)


async def test_waiting_past_the_deadline_is_giving_up() -> None:
    answer, _ = await obtain({"one": [E.RATE_LIMITED] * 9}, choices=(ONE,), seconds=2.0)
    assert isinstance(answer, GaveUp)
    assert answer.reason == "DEADLINE_EXCEEDED"


async def test_an_open_breaker_is_not_asked_and_waited_for() -> None:
    clock, providers = Clock(), Providers({})
    fallback = loop(clock, lambda choice: 5.0 if choice is ONE else 0.0)
    wanted = Wanted((ONE, TWO), (0,), clock() + 600)
    assert isinstance(await fallback.obtain(wanted, History(), providers.ask), Delivered)
    assert [name for name, _ in providers.asked] == ["two"]
    alone = Wanted((ONE,), (0,), clock() + 600)
    assert await fallback.obtain(alone, History(), providers.ask) == Later(5.0)


async def test_a_closed_account_closes_all_its_models() -> None:
    other = Choice("one", "other")
    _, asked = await obtain({"one": [E.QUOTA]}, choices=(ONE, other, TWO))
    assert asked == ["one", "two"]


async def test_earlier_runs_count() -> None:
    clock, providers = Clock(), Providers({})
    history = History([Failed("one", "m", E.UNKNOWN_OUTCOME)])
    await loop(clock).obtain(Wanted((ONE, TWO), (0,), clock() + 9), history, providers.ask)
    assert [name for name, _ in providers.asked] == ["two"]


@pytest.mark.parametrize(
    ("kind", "fail_on_unknown", "reason"),
    [(E.REFUSED, False, "PROVIDER_REFUSED"), (E.UNKNOWN_OUTCOME, True, "ATTEMPT_OUTCOME_UNKNOWN")],
)
async def test_what_ended_the_ordering_in_an_earlier_run_ends_it_still(
    kind: ErrorKind, fail_on_unknown: bool, reason: str
) -> None:
    clock, providers = Clock(), Providers({})
    history = History([Failed("one", "m", kind)])
    wanted = Wanted((ONE, TWO), (1,), clock() + 9, fail_on_unknown)
    answer = await loop(clock).obtain(wanted, history, providers.ask)
    assert isinstance(answer, GaveUp)
    assert answer.reason == reason
    assert providers.asked == []


async def test_an_unknown_outcome_decides_nothing_where_repeating_is_safe() -> None:
    clock, providers = Clock(), Providers({"own": [E.UNKNOWN_OUTCOME]})
    answer = await loop(clock).obtain(Wanted((OWN,), (0,), clock() + 9, True), History(), providers.ask)
    assert isinstance(answer, Delivered)


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ([E.BAD_REQUEST, E.BAD_REQUEST], "PROVIDER_BAD_REQUEST"),
        ([E.BAD_REQUEST, E.QUOTA], "ALL_CANDIDATES_FAILED"),
        ([E.BAD_REQUEST, E.UNKNOWN_OUTCOME], "ATTEMPT_OUTCOME_UNKNOWN"),
        ([E.UNKNOWN_OUTCOME, E.REFUSED], "PROVIDER_REFUSED"),
    ],
)
async def test_the_reason_told_in_the_end(kinds: list[ErrorKind], reason: str) -> None:
    answer, _ = await obtain({"one": [kinds[0]], "two": [kinds[1]]})
    assert isinstance(answer, GaveUp)
    assert (answer.reason, answer.refused) == (reason, reason == "PROVIDER_REFUSED")


async def test_no_candidates_is_a_reason_too() -> None:
    answer, _ = await obtain({}, choices=())
    assert isinstance(answer, GaveUp)
    assert answer.reason == "NO_CANDIDATE"


@pytest.mark.parametrize(
    ("missing", "most", "order"),
    [((0, 1, 2, 3), 2, (0, 1)), ((1, 3), 4, (1,)), ((2, 3, 5), 4, (2, 3)), ((5,), 1, (5,))],
)
def test_an_order_is_one_run_of_missing_indices(missing: tuple[int, ...], most: int, order: tuple[int, ...]) -> None:
    assert owed(missing, most) == order


turns = st.lists(st.one_of(st.sampled_from(ErrorKind), st.integers(1, 4)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(one=turns, two=turns, own=turns, count=st.integers(1, 8))
def test_no_sequence_of_failures_breaks_a_promise(
    one: list[Turn], two: list[Turn], own: list[Turn], count: int
) -> None:
    asyncio.run(_walk({"one": one, "two": two, "own": own}, count))


async def _walk(scripts: dict[str, list[Turn]], count: int) -> None:
    clock, providers, history = Clock(), Providers(scripts), History()
    fallback, choices, ends = loop(clock), (ONE, TWO, OWN), clock() + 600
    missing = tuple(range(count))
    answer: Delivered | Later | GaveUp | None = None
    while missing and not isinstance(answer, GaveUp):
        answer = await fallback.obtain(Wanted(choices, missing, ends), history, providers.ask)
        if isinstance(answer, Delivered):
            assert set(answer.indices) <= set(missing)  # nothing is ordered twice
            missing = tuple(index for index in missing if index not in answer.indices)
        elif isinstance(answer, Later):
            assert clock() + answer.seconds < ends  # nobody waits past the deadline
            clock.now += answer.seconds
    _check(history, [name for name, _ in providers.asked])


def _check(history: History, asked: list[str]) -> None:
    position = dict.fromkeys(("one", "two", "own"), 0)
    refused = False
    failures = iter(history.failures)
    for failure in failures:
        assert not refused  # nobody is asked after a refusal
        refused = failure.kind is E.REFUSED
        position[failure.provider] += 1
    for choice in (ONE, TWO, OWN):
        mine = history.of(choice)
        for kind in {failure.kind for failure in mine}:
            most = allowance(treatment(kind, replay_safe=choice.replay_safe))
            assert sum(failure.kind is kind for failure in mine) <= min(most, FOREVER)
        lasting = [f.kind for f in mine if f.kind is E.UNKNOWN_OUTCOME and not choice.replay_safe]
        assert len(lasting) <= 1  # an unknown outcome is never submitted again
        if lasting:
            assert mine[-1].kind is E.UNKNOWN_OUTCOME
            assert asked.count(choice.provider) >= len(mine)


async def test_a_provider_that_stays_away_is_asked_ever_more_seldom() -> None:
    clock, providers, history = Clock(), Providers({"one": [E.UNREACHABLE] * 10_000}), History()
    wanted = Wanted((ONE,), (0,), clock() + 24 * 3600)
    parked = []
    while isinstance(answer := await loop(clock).obtain(wanted, history, providers.ask), Later):
        parked.append(answer.seconds)
        clock.now += answer.seconds
        history._resting.clear()  # as in a new run
    assert parked == sorted(parked)
    assert parked[-1] == 60
    assert len(providers.asked) < 4000


async def test_nobody_is_asked_beside_a_slow_one_once_the_worker_wants_to_stop() -> None:
    asked, stopping = [], []

    async def ask(choice: Choice, indices: tuple[int, ...]) -> Delivered | Failed:
        asked.append(choice.provider)
        stopping.append(True)
        for _ in range(9):  # turns of the loop
            await asyncio.sleep(0)
        return Delivered("att", choice, indices, ProviderResult((ProviderImage(b"", "image/png"),)))

    wanted = Wanted([ONE, TWO], (0,), 1100.0, hedge_after=lambda _choice: 0.0, stopping=lambda: bool(stopping))
    assert isinstance(await loop(Clock()).obtain(wanted, History(), ask), Delivered)
    assert asked == ["one"]
