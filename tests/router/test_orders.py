"""Orders at providers that work asynchronously: taken up by their id, called off by it, never lost for want of it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from imagemesh.router.v1 import job_pb2

from mesh.errors import Unavailable
from services.router.attempt_store import NewAttempt
from services.router.call_back_store import CallBackStore, Fact
from services.router.leases import Ended, Lease, LeaseLost
from services.router.providers.accounts import Accounts, Member
from services.router.providers.base import Listener, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.tables import attempts, jobs
from services.router.worker import Worker
from tests.router.rig import Rig, ScriptedProvider
from tests.router.stores import Stores
from tests.router.test_worker import Desk


class Slow(ScriptedProvider):
    """Says its id at once and hangs unless `ready`; can be taken up and called off by the id."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._can = dataclasses.replace(self._can, resumable=True, cancelable=True)
        self.ready = asyncio.Event()
        self.done = asyncio.Event()
        self.done.set()
        """Once set, an order that was taken up is drawn."""
        self.accepted = asyncio.Event()
        self.resumed: list[tuple[str, float]] = []
        self.canceled: list[str] = []
        self.cancel_fails = False
        self.in_time = True
        self.chosen_id = ""
        self.before = False
        """Whether it hangs before the request goes out."""
        self.asking_fails: ErrorKind | None = None
        self.instead: Callable[[ProviderCall], Awaitable[ProviderResult]] | None = None

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        self.calls.append(call)
        if self.before:
            self.accepted.set()
            await self.ready.wait()
        call.before_sending()
        if self.instead is not None:
            return await self.instead(call)
        if not self.chosen_id:
            await listener.accepted("vendor-1")
        self.accepted.set()
        await self.ready.wait()
        if self.asking_fails is not None:
            raise ProviderError(self.asking_fails, "the order could not be asked about")
        return self._draw(call, "draw")

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        async with self.asked:
            self.resumed.append((provider_request_id, call.timeout))
            self.asked.notify_all()
        await self.done.wait()
        return self._draw(call, "draw")

    async def until_resumed(self) -> None:
        async with self.asked:
            await self.asked.wait_for(lambda: bool(self.resumed))

    def order_id(self, attempt_id: str) -> str:
        return self.chosen_id

    async def cancel(self, provider_request_id: str) -> bool:
        self.canceled.append(provider_request_id)
        if self.cancel_fails:
            raise ProviderError(ErrorKind.OVERLOADED, "not now")
        return self.in_time


@pytest.fixture
def rig(stores: Stores, tmp_path: Path) -> Rig:
    rig = Rig(stores, tmp_path)
    rig.one = rig.providers["one"] = Slow("one")
    return rig


def slow(rig: Rig) -> Slow:
    assert isinstance(rig.one, Slow)
    return rig.one


async def stop_while_drawing(desk: Desk) -> None:
    async with desk.working(drain_s=0.1):
        await slow(desk.rig).accepted.wait()
    desk.stopping.clear()


async def test_stopping_leaves_an_order_with_an_id_to_the_next_worker(rig: Rig) -> None:
    desk = Desk(rig)
    job_id = await rig.submit()
    await stop_while_drawing(desk)
    assert [(row.state, row.provider_request_id) for row in await rig.stores.rows(attempts)] == [
        ("RUNNING", "vendor-1")
    ]
    async with desk.working(owner="w2"):
        await desk.until_state("SUCCEEDED")
    assert [request_id for request_id, _ in slow(rig).resumed] == ["vendor-1"]
    assert (len(rig.one.calls), rig.two.calls) == (1, [])
    assert (await rig.record(job_id)).state == "SUCCEEDED"


async def canceled_while_it_waits(desk: Desk) -> None:
    job_id = await desk.rig.submit()
    async with desk.working() as worker:
        await _cancel(desk, worker, job_id)
        await desk.until_state("CANCELED")


@pytest.mark.parametrize(
    ("fails", "in_time", "state", "cost"),
    [(False, True, "CANCELED", 0), (False, False, "CANCELED", 20_000), (True, True, "UNKNOWN", 0)],
)
async def test_a_cancel_calls_the_order_off_at_its_provider(
    rig: Rig, fails: bool, in_time: bool, state: str, cost: int
) -> None:
    slow(rig).cancel_fails, slow(rig).in_time = fails, in_time
    await canceled_while_it_waits(Desk(rig))
    assert slow(rig).canceled == ["vendor-1"]
    assert [(row.state, row.cost_micros) for row in await rig.stores.rows(attempts)] == [(state, cost)]
    assert ("HOLD" in [kind for kind, _ in await rig.stores.kinds()]) is fails


async def test_an_order_that_was_never_sent_holds_nothing_when_its_job_is_canceled(rig: Rig) -> None:
    slow(rig).before = True
    await canceled_while_it_waits(Desk(rig))
    assert slow(rig).canceled == []
    assert [(row.state, row.cost_micros) for row in await rig.stores.rows(attempts)] == [("CANCELED", 0)]
    assert "HOLD" not in [kind for kind, _ in await rig.stores.kinds()]


async def test_an_order_that_one_account_turned_away_and_no_other_got_holds_nothing(rig: Rig) -> None:
    first, second = ScriptedProvider("one"), slow(rig)
    first.script = [ErrorKind.RATE_LIMITED]
    second.before = True
    rig.providers["one"] = Accounts([Member("a", first, 2), Member("b", second, 2)])
    await canceled_while_it_waits(Desk(rig))
    assert len(first.calls) == 1
    assert [row.state for row in await rig.stores.rows(attempts)] == ["CANCELED"]
    assert "HOLD" not in [kind for kind, _ in await rig.stores.kinds()]


async def test_an_order_whose_row_was_being_written_when_its_job_was_canceled_is_no_order(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = rig.stores.attempts.begin

    async def slowly(lease: Lease, attempt: NewAttempt) -> int:
        number = await begin(lease, attempt)
        slow(rig).accepted.set()
        await asyncio.Event().wait()
        return number

    monkeypatch.setattr(rig.stores.attempts, "begin", slowly)
    await canceled_while_it_waits(Desk(rig))
    assert [row.state for row in await rig.stores.rows(attempts)] == ["CANCELED"]
    assert "HOLD" not in [kind for kind, _ in await rig.stores.kinds()]


async def test_a_run_that_was_replaced_by_another_of_ours_does_not_disturb_it(rig: Rig) -> None:
    vendor = slow(rig)
    vendor.done.clear()
    await rig.submit()
    replaced = asyncio.create_task(rig.walk(await rig.claim(lease_s=0.0)))
    await vendor.accepted.wait()
    going_on = asyncio.create_task(rig.walk(await rig.claim("w2")))
    await vendor.until_resumed()
    replaced.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replaced
    vendor.done.set()
    assert isinstance(await going_on, Ended)
    assert [row.state for row in await rig.stores.rows(attempts)] == ["SUCCEEDED"]


async def test_an_order_that_a_stopping_worker_never_sent_is_placed_at_the_same_provider_again(rig: Rig) -> None:
    vendor, desk = slow(rig), Desk(rig)
    vendor.before = True
    await rig.submit()
    await stop_while_drawing(desk)
    vendor.ready.set()
    async with desk.working(owner="w2"):
        await desk.until_state("SUCCEEDED")
    told = [(row.provider, row.state) for row in await rig.stores.rows(attempts)]
    assert told == [("one", "CANCELED"), ("one", "SUCCEEDED")]
    assert "HOLD" not in [kind for kind, _ in await rig.stores.kinds()]


async def test_an_order_that_the_lease_no_longer_covers_is_not_sent_and_holds_nothing(rig: Rig) -> None:
    vendor = slow(rig)
    vendor.before = True
    await rig.submit()
    walking = asyncio.create_task(rig.walk(await rig.claim()))
    await vendor.accepted.wait()
    rig.grip.left = 0.5
    vendor.ready.set()
    with pytest.raises(LeaseLost):
        await walking
    assert [row.state for row in await rig.stores.rows(attempts)] == ["CANCELED"]
    assert "HOLD" not in [kind for kind, _ in await rig.stores.kinds()]


async def test_an_order_whose_id_we_choose_is_taken_up_although_no_answer_came(rig: Rig) -> None:
    vendor = slow(rig)
    vendor.chosen_id = "chosen-1"
    desk = Desk(rig)
    await rig.submit()
    walking = asyncio.create_task(rig.walk(await rig.claim(lease_s=0.0)))
    await vendor.accepted.wait()
    async with desk.working(owner="w2"):  # as if the first worker were dead
        await desk.until_state("SUCCEEDED")
    walking.cancel()
    assert [request_id for request_id, _ in vendor.resumed] == ["chosen-1"]
    assert [(row.state, row.provider) for row in await rig.stores.rows(attempts)] == [("SUCCEEDED", "one")]


async def test_an_order_whose_id_we_choose_is_called_off_although_no_answer_came(rig: Rig) -> None:
    slow(rig).chosen_id = "chosen-1"
    await canceled_while_it_waits(Desk(rig))
    assert slow(rig).canceled == ["chosen-1"]
    assert [row.state for row in await rig.stores.rows(attempts)] == ["CANCELED"]


async def _cancel(desk: Desk, worker: Worker, job_id: str) -> None:
    await slow(desk.rig).accepted.wait()
    await desk.rig.stores.jobs.cancel("acme", job_id)
    worker.cancel_wanted(job_id)


async def test_an_order_past_the_deadline_is_taken_up_with_the_time_a_call_takes(rig: Rig) -> None:
    desk = Desk(rig)
    await rig.submit(deadline_s=20)
    await stop_while_drawing(desk)
    past = jobs.update().values(deadline=jobs.c.create_time)
    await rig.stores.database.write(lambda c: c.execute(past) and None)
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    ((_, timeout),) = slow(rig).resumed
    assert timeout > 1
    assert [row.state for row in await rig.stores.rows(jobs)] == ["SUCCEEDED"]


async def test_a_job_that_cannot_go_on_leaves_no_order_under_way(rig: Rig) -> None:
    desk = Desk(rig)
    await rig.submit()
    await stop_while_drawing(desk)
    spec = job_pb2.GenerationSpec(prompt="p", model="gone", count=1).SerializeToString()
    await rig.stores.database.write(lambda c: c.execute(jobs.update().values(spec=spec)) and None)
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert [row.state for row in await rig.stores.rows(jobs)] == ["FAILED"]
    assert [row.state for row in await rig.stores.rows(attempts)] == ["UNKNOWN"]
    assert "HOLD" in [kind for kind, _ in await rig.stores.kinds()]


@pytest.mark.parametrize("kind", [ErrorKind.AUTHENTICATION, ErrorKind.RATE_LIMITED, ErrorKind.UNREACHABLE])
async def test_an_order_that_was_taken_is_not_placed_again_because_asking_failed(rig: Rig, kind: ErrorKind) -> None:
    vendor = slow(rig)
    vendor.ready.set()
    vendor.asking_fails = kind
    await rig.submit()
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    assert (len(rig.one.calls), len(rig.two.calls)) == (1, 1)
    states = {row.provider: row.state for row in await rig.stores.rows(attempts)}
    assert states == {"one": "UNKNOWN", "two": "SUCCEEDED"}
    assert "HOLD" in [entry for entry, _ in await rig.stores.kinds()]


async def test_an_order_whose_answer_was_lost_is_asked_about_when_its_vendor_has_called_back(rig: Rig) -> None:
    vendor = slow(rig)
    vendor._can = dataclasses.replace(vendor._can, webhooks=True)
    store = CallBackStore(rig.stores.database)

    async def lost(call: ProviderCall) -> ProviderResult:
        await store.note(Fact("one", call.attempt_id, "vendor-1"))
        raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, "no answer in time")

    vendor.instead = lost
    await rig.submit()
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    assert [request_id for request_id, _ in vendor.resumed] == ["vendor-1"]
    assert [(row.state, row.provider) for row in await rig.stores.rows(attempts)] == [("SUCCEEDED", "one")]
    assert "HOLD" not in [entry for entry, _ in await rig.stores.kinds()]


async def test_the_id_is_stored_however_busy_the_database_is(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(rig).ready.set()
    await rig.submit()
    identify, busy = rig.stores.attempts.identify, [1, 1, 1]

    async def sometimes(lease: Lease, attempt_id: str, provider_request_id: str, account: str) -> None:
        if busy:
            busy.pop()
            raise Unavailable("the database is busy")
        await identify(lease, attempt_id, provider_request_id, account)

    monkeypatch.setattr(rig.stores.attempts, "identify", sometimes)
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    assert not busy
    assert [row.state for row in await rig.stores.rows(jobs)] == ["SUCCEEDED"]
