"""A second candidate is asked beside a slow one: who is faster wins, the other is called off, and one is debited."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from imagemesh.router.v1 import job_pb2

from mesh.errors import Unavailable
from services.router.hedging import race
from services.router.leases import Ended
from services.router.money import Money
from services.router.planning import PlanRequest
from services.router.providers.base import Listener, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.quoting import reservation
from services.router.specs import AUTO, GenerationSpec, JobOptions
from services.router.tables import attempts, jobs
from services.router.wire import money_to_proto
from tests.router.rig import Rig, ScriptedProvider
from tests.router.stores import Stores

HEDGED = job_pb2.JobOptions(routing=job_pb2.Routing(hedge=True))


class Observed:
    """Everybody takes no time at all, so whoever hangs is slow."""

    def p50_s(self, provider: str, model: str) -> float | None:
        return 0.0

    def p95_s(self, provider: str, model: str) -> float | None:
        return 0.0


class Slow(ScriptedProvider):
    """Hangs under an id until it is called off."""

    def __init__(self, name: str, *, cancelable: bool) -> None:
        super().__init__(name)
        self._can = replace(self._can, cancelable=cancelable)
        self.canceled: list[str] = []
        self.in_time = True

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        await listener.accepted("vendor-1")
        return await super().submit(call, listener)

    async def cancel(self, provider_request_id: str) -> bool:
        self.canceled.append(provider_request_id)
        return self.in_time


@pytest.fixture
def rig(stores: Stores, tmp_path: Path) -> Rig:
    rig = Rig(stores, tmp_path)
    rig.planner = replace(rig.planner, observed=Observed())
    return rig


async def states(rig: Rig) -> dict[str, str]:
    return {row.provider: row.state for row in await rig.stores.rows(attempts)}


def once_the_first_hangs(rig: Rig) -> None:
    """The first one never answers, and the second one draws once the first was asked."""

    async def later(call: ProviderCall) -> ProviderResult:
        await rig.one.until_asked()
        return rig.two._draw(call, "draw")

    rig.one.script, rig.two.script = ["hang"], [later]


async def draw(rig: Rig, **fields: Any) -> None:
    await rig.submit(options=HEDGED, **fields)
    assert isinstance(await rig.walk(await rig.claim()), Ended)


@pytest.mark.parametrize(("cancelable", "loser"), [(True, "CANCELED"), (False, "UNKNOWN")])
async def test_the_faster_one_wins_and_the_other_is_called_off(rig: Rig, cancelable: bool, loser: str) -> None:
    slow = rig.one = rig.providers["one"] = Slow("one", cancelable=cancelable)
    once_the_first_hangs(rig)
    await draw(rig)
    assert await states(rig) == {"one": loser, "two": "SUCCEEDED"}
    assert slow.canceled == (["vendor-1"] if cancelable else [])
    (job,) = await rig.stores.rows(jobs)
    assert (job.state, job.cost_micros) == ("SUCCEEDED", 30_000)  # the winner's price, once


async def test_a_loser_that_was_called_off_too_late_is_booked_beside_the_winner(rig: Rig) -> None:
    slow = Slow("one", cancelable=True)
    slow.in_time = False
    rig.one = rig.providers["one"] = slow
    once_the_first_hangs(rig)
    await draw(rig)
    assert {row.provider: row.cost_micros for row in await rig.stores.rows(attempts)} == {"one": 20_000, "two": 30_000}
    assert [(job.state, job.cost_micros) for job in await rig.stores.rows(jobs)] == [("SUCCEEDED", 30_000)]


async def test_a_loser_of_unknown_outcome_is_not_asked_for_the_next_picture(stores: Stores, tmp_path: Path) -> None:
    rig = Rig(stores, tmp_path, count_per_call=1)
    rig.planner = replace(rig.planner, observed=Observed())
    once_the_first_hangs(rig)
    await draw(rig, count=2)
    assert await states(rig) == {"one": "UNKNOWN", "two": "SUCCEEDED"}
    assert (len(rig.one.calls), len(rig.two.calls)) == (1, 2)


async def test_a_quick_first_is_left_alone(rig: Rig) -> None:
    await draw(rig, prompt="quick")
    assert (len(rig.one.calls), rig.two.calls) == (1, [])


async def test_a_second_that_fails_leaves_the_first_its_time(rig: Rig) -> None:
    gate = asyncio.Event()

    async def late(call: ProviderCall) -> ProviderResult:
        await gate.wait()
        return rig.one._draw(call, "draw")

    rig.one.script = [late]
    rig.two.script = [ErrorKind.BAD_REQUEST]
    opening = asyncio.create_task(_open_once_failed(rig, gate))
    await draw(rig)
    await opening
    assert await states(rig) == {"one": "SUCCEEDED", "two": "FAILED"}


async def _open_once_failed(rig: Rig, gate: asyncio.Event) -> None:
    while (await states(rig)).get("two") != "FAILED":
        await asyncio.sleep(0)
    gate.set()


async def test_a_refusal_by_either_ends_the_ordering(rig: Rig) -> None:
    rig.one.script = ["hang"]
    rig.two.script = [ErrorKind.REFUSED]
    await draw(rig)
    (job,) = await rig.stores.rows(jobs)
    assert (job.state, job.blocked_by) == ("BLOCKED", "PROVIDER")


async def test_without_hedging_a_slow_one_is_waited_for(rig: Rig) -> None:
    rig.one.script = ["hang"]
    await rig.submit()
    task = asyncio.create_task(rig.walk(await rig.claim()))
    await rig.one.until_asked()
    assert rig.two.calls == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_breaking_the_race_off_breaks_both_off() -> None:
    started, ended = asyncio.Semaphore(0), []

    async def hang(name: str) -> int:
        started.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)
        return 1

    task = asyncio.create_task(race(lambda: hang("a"), lambda: hang("b"), 0.0, lambda _answer: True))
    await started.acquire()
    await started.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["a", "b"]


async def broken() -> int:
    raise LookupError


@pytest.mark.parametrize("order", ["first", "second"])
async def test_an_exception_in_one_leaves_the_other_its_time(order: str) -> None:
    both, gate = asyncio.Event(), asyncio.Event()

    async def breaks() -> int:
        await both.wait()
        raise LookupError

    async def wins() -> int:
        await gate.wait()
        return 1

    pair = (breaks, wins) if order == "first" else (wins, breaks)
    racing = asyncio.create_task(race(*pair, 0.0, lambda _answer: True))
    for event in (both, gate):
        for _ in range(9):  # turns of the loop
            await asyncio.sleep(0)
        event.set()
    assert await racing == [1]


async def test_an_exception_is_raised_when_nobody_wins() -> None:
    async def loses() -> int:
        return 0

    with pytest.raises(LookupError):
        await race(broken, loses, 0.0, lambda _answer: False)
    with pytest.raises(LookupError):
        await race(broken, lambda: None, 0.0, lambda _answer: True)


async def test_what_the_slower_one_says_at_the_end_is_heard() -> None:
    async def hangs() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 2
        return 3

    async def wins() -> int:
        return 1

    assert await race(hangs, wins, 0.0, lambda answer: answer == 1) == [2, 1]


async def test_an_unknown_outcome_of_the_second_ends_the_job_where_asked(rig: Rig) -> None:
    async def late(call: ProviderCall) -> ProviderResult:
        while (await states(rig)).get("two") != "UNKNOWN":
            await asyncio.sleep(0)
        raise ProviderError(ErrorKind.OVERLOADED, "too much to do")

    rig.one.script = [late]
    rig.two.script = [ErrorKind.UNKNOWN_OUTCOME]
    routing = job_pb2.Routing(hedge=True, on_unknown=job_pb2.ON_UNKNOWN_FAIL)
    await rig.submit(options=job_pb2.JobOptions(routing=routing))
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    (job,) = await rig.stores.rows(jobs)
    assert (job.state, job.error_reason) == ("FAILED", "ATTEMPT_OUTCOME_UNKNOWN")
    assert len(rig.one.calls) == 1


async def test_the_winner_is_kept_while_the_database_is_busy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, busy = rig.stores.attempts.list, [1, 1]

    async def busy_at_first(job_id: str) -> Any:
        if busy:
            busy.pop()
            raise Unavailable("the database is busy")
        return await listed(job_id)

    monkeypatch.setattr(rig.stores.attempts, "list", busy_at_first)
    once_the_first_hangs(rig)
    await draw(rig)
    assert await states(rig) == {"one": "UNKNOWN", "two": "SUCCEEDED"}
    assert len(rig.two.calls) == 1


async def test_hedging_costs_the_caller_no_more_than_was_allowed(rig: Rig) -> None:
    async def dear(call: ProviderCall) -> ProviderResult:
        return replace(rig.two._draw(call, "draw"), cost_micros=45_000)

    rig.one.script, rig.two.script = ["hang"], [dear]
    cents = job_pb2.JobOptions(routing=HEDGED.routing, max_cost=money_to_proto(Money(30_000)))
    await rig.submit(options=cents)
    both = jobs.update().values(reserved_micros=50_000)
    await rig.stores.database.write(lambda c: c.execute(both) and None)
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    (job,) = await rig.stores.rows(jobs)
    assert (job.state, job.cost_micros) == ("SUCCEEDED", 30_000)


def test_both_dearest_candidates_are_reserved(rig: Rig) -> None:
    candidates = rig.planner.plan(PlanRequest(GenerationSpec("a fox", model=AUTO, count=2), JobOptions()))
    assert reservation(candidates).micros == 60_000
    assert reservation(candidates, hedge=True).micros == 100_000
