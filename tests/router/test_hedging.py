"""A second candidate is asked beside a slow one: who is faster wins, the other is called off, and one is debited."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from imagemesh.router.v1 import job_pb2

from services.router.hedging import race
from services.router.leases import Ended
from services.router.planning import PlanRequest
from services.router.providers.base import Listener, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind
from services.router.quoting import reservation
from services.router.specs import AUTO, GenerationSpec, JobOptions
from services.router.tables import attempts, jobs
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

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        await listener.accepted("vendor-1")
        return await super().submit(call, listener)

    async def cancel(self, provider_request_id: str) -> None:
        self.canceled.append(provider_request_id)


@pytest.fixture
def rig(stores: Stores, tmp_path: Path) -> Rig:
    rig = Rig(stores, tmp_path)
    rig.planner = replace(rig.planner, observed=Observed())
    return rig


async def states(rig: Rig) -> dict[str, str]:
    return {row.provider: row.state for row in await rig.stores.rows(attempts)}


async def draw(rig: Rig, **fields: Any) -> None:
    await rig.submit(options=HEDGED, **fields)
    assert isinstance(await rig.walk(await rig.claim()), Ended)


@pytest.mark.parametrize(("cancelable", "loser"), [(True, "CANCELED"), (False, "UNKNOWN")])
async def test_the_faster_one_wins_and_the_other_is_called_off(rig: Rig, cancelable: bool, loser: str) -> None:
    slow = rig.one = rig.providers["one"] = Slow("one", cancelable=cancelable)
    slow.script = ["hang"]
    await draw(rig)
    assert await states(rig) == {"one": loser, "two": "SUCCEEDED"}
    assert slow.canceled == (["vendor-1"] if cancelable else [])
    (job,) = await rig.stores.rows(jobs)
    assert (job.state, job.cost_micros) == ("SUCCEEDED", 30_000)  # the winner's price, once


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


async def test_an_exception_in_one_breaks_the_other_off() -> None:
    async def hang() -> int:
        await asyncio.Event().wait()
        return 1

    async def broken() -> int:
        raise LookupError

    with pytest.raises(LookupError):
        await race(hang, broken, 0.0, lambda _answer: True)


def test_both_dearest_candidates_are_reserved(rig: Rig) -> None:
    candidates = rig.planner.plan(PlanRequest(GenerationSpec("a fox", model=AUTO, count=2), JobOptions()))
    assert reservation(candidates).micros == 60_000
    assert reservation(candidates, hedge=True).micros == 100_000
