"""Whatever happens, and wherever runs are broken off: no order is placed twice, money adds up, what is shown is told.

Vendors behave at random, storage and moderation go away and come back, people decide about pictures, workers lose their
leases or are stopped at random points, vendors call back, callers cancel.
A seed decides all but how long the database takes, so one that fails may want several runs to fail again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from imagemesh.router.v1 import job_pb2

from mesh.errors import FailedPrecondition
from services.router.call_back_store import CallBackStore, Fact
from services.router.delivery import CancelWonError
from services.router.leases import ClaimedJob, ClaimRequest, LeaseLost, Parking
from services.router.peers.moderation import Decision
from services.router.pipeline import Released
from services.router.providers.base import Listener, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.tables import attempts, ledger_entries
from tests.router.rig import Grip, Rig, ScriptedProvider
from tests.router.stores import Stores

FAILURES = [kind for kind in ErrorKind if kind is not ErrorKind.REFUSED]
RUNS = 60
"""A job ends long before so many runs."""
UNDISTURBED = 20
"""From this run on nobody is broken off any more."""


class Vendor(ScriptedProvider):
    """Takes its time, fails now and then, and notes who asked it."""

    def __init__(self, name: str, luck: random.Random, stores: Stores) -> None:
        super().__init__(name)
        self._luck, self._stores = luck, stores
        resumable, cancelable = luck.random() < 0.7, luck.random() < 0.5
        self._can = dataclasses.replace(self._can, resumable=resumable, cancelable=cancelable, webhooks=True)
        self._named_by_us = resumable and luck.random() < 0.3
        self.sent: dict[str, str] = {}
        """The vendor's ids of orders by attempt; empty while it has told none."""
        self.called_off: set[str] = set()
        self.faults: list[str] = []

    def order_id(self, attempt_id: str) -> str:
        return f"mine-{attempt_id}" if self._named_by_us else ""

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        await self._pass(30)
        call.before_sending()
        self.faults += [f"{call.attempt_id} was sent twice"] * (call.attempt_id in self.sent)
        self.sent[call.attempt_id] = ""
        await self._look(call.attempt_id)
        await self._pass(30)
        self._perhaps_fail(0.25)
        order_id = self.sent[call.attempt_id] = self.order_id(call.attempt_id) or f"{self.name}-{len(self.sent)}"
        await listener.accepted(order_id)
        await self._pass(60)
        self._perhaps_fail(0.3)
        return self._draw(call, "draw")

    async def resume(self, call: ProviderCall, provider_request_id: str, listener: Listener) -> ProviderResult:
        await self._pass(40)
        self._perhaps_fail(0.4)
        return self._draw(call, "draw")

    async def cancel(self, provider_request_id: str) -> bool:
        self.called_off.add(provider_request_id)
        await self._pass(5)
        self._perhaps_fail(0.3)
        return self._luck.random() < 0.5

    async def _look(self, attempt_id: str) -> None:
        """Nobody may ask here while another order is under way or has an unknown outcome."""
        rows = [row for row in await self._stores.rows(attempts) if row.provider == self.name]
        open_ones = [row.state for row in rows if row.attempt_id != attempt_id and row.state in ("RUNNING", "UNKNOWN")]
        self.faults += [f"{self.name} was asked beside an order that is {state}" for state in open_ones]

    async def _pass(self, most: int) -> None:
        for _ in range(self._luck.randrange(most)):
            await asyncio.sleep(0)

    def _perhaps_fail(self, share: float) -> None:
        if self._luck.random() < share:
            raise ProviderError(self._luck.choice(FAILURES), "bad luck")


class AtOnce:
    """Everybody is late at once, so that a second one is asked beside the first."""

    def p50_s(self, _provider: str, _model: str) -> float | None:
        return 0.0

    def p95_s(self, _provider: str, _model: str) -> float | None:
        return 0.0


@dataclass
class Life:
    """One job's way through many workers."""

    rig: Rig
    luck: random.Random
    vendors: dict[str, Vendor]
    broken_off: list[asyncio.Task[None]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    """Epochs whose runs could not write to the end."""

    async def live(self, job_id: str) -> None:
        for number in range(RUNS):
            self._weather(calm=number >= UNDISTURBED)
            await self.rig.stores.queue.poke(job_id)
            request = ClaimRequest(f"w{number}", "INTERACTIVE", 1, 0.0, max_losses=RUNS)
            for job in await self.rig.stores.queue.claim(request):
                await self._run(job, disturb=number < UNDISTURBED)
            if (await self.rig.record(job_id)).ended:
                break
            await self._call_backs()
            if self.luck.random() < 0.08:
                with contextlib.suppress(FailedPrecondition):
                    await self.rig.stores.jobs.cancel("acme", job_id)
        await asyncio.gather(*self.broken_off)

    def _weather(self, calm: bool) -> None:
        """What the other services are like now; in the end, people have decided."""
        storage, moderation = self.rig.storage, self.rig.moderation
        storage.outages = 0 if calm else self.luck.choice([0, 0, 0, 1, 2, 3])
        moderation.down = not calm and self.luck.random() < 0.2
        if calm and moderation.image_decision is Decision.REVIEW:
            moderation.image_decision = self.luck.choice([Decision.ALLOW, Decision.BLOCK])

    async def _run(self, job: ClaimedJob, disturb: bool) -> None:
        grip = Grip()
        task = asyncio.create_task(self._walk(job, grip))
        if not disturb or self.luck.random() > 0.35:
            await task
            return
        for _ in range(self.luck.randrange(120)):
            await asyncio.sleep(0)
        grip.left = 0.0  # the next one is claimed at once
        self.lost.add(job.lease.epoch)
        self.broken_off.append(task)
        if self.luck.random() < 0.5:
            task.cancel()

    async def _walk(self, job: ClaimedJob, grip: Grip) -> None:
        run = self.rig.runs.open(job, grip)
        with contextlib.suppress(LeaseLost, asyncio.CancelledError):
            try:
                if job.cancel_requested and not run.committed:
                    raise CancelWonError
                outcome = await self.rig.pipeline.walk(run)
            except CancelWonError:
                outcome = await self.rig.pipeline.cancel(run)
            except asyncio.CancelledError:
                outcome = Released()
            if isinstance(outcome, Parking):
                await self.rig.stores.queue.park(job.lease, outcome)
            elif isinstance(outcome, Released):
                await self.rig.stores.queue.release(job.lease)

    async def _call_backs(self) -> None:
        for row in await self.rig.stores.rows(attempts):
            order_id = self.vendors[row.provider].sent.get(row.attempt_id)
            if order_id and self.luck.random() < 0.15:
                await CallBackStore(self.rig.stores.database).note(Fact(row.provider, row.attempt_id, order_id))


@pytest.mark.parametrize("seed", range(24))
async def test_a_job_keeps_its_promises(stores: Stores, tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    rig = Rig(stores, tmp_path, count_per_call=luck.choice([1, 2, 4]))
    rig.planner = dataclasses.replace(rig.planner, observed=AtOnce())
    vendors = {name: Vendor(name, luck, stores) for name in ("one", "two")}
    rig.providers.update(vendors)
    routing = job_pb2.Routing(hedge=luck.random() < 0.4, on_unknown=luck.choice(job_pb2.OnUnknown.values()))
    job_id = await rig.submit(count=luck.randrange(1, 4), options=job_pb2.JobOptions(routing=routing))
    rig.moderation.image_decision = luck.choice([Decision.ALLOW, Decision.FLAG, Decision.BLOCK, Decision.REVIEW])
    rig.moderation.images = {0: luck.choice([Decision.ALLOW, Decision.BLOCK])} if luck.random() < 0.3 else {}
    life = Life(rig, luck, vendors)
    await life.live(job_id)
    await _is_told_as_it_is_shown(rig, job_id)
    await _orders_add_up(rig, life)


async def _is_told_as_it_is_shown(rig: Rig, job_id: str) -> None:
    record, job = await rig.record(job_id), await rig.result(job_id)
    shown = {image.asset_id for image in job.images if image.state == job_pb2.IMAGE_STATE_PUBLISHED}
    assert record.ended
    assert rig.storage.published() == shown
    assert (record.state == "SUCCEEDED") is bool(shown)
    debits = [amount for kind, amount in await rig.stores.kinds() if kind == "DEBIT"]
    assert debits == ([record.cost_micros] if shown else [])
    assert record.cost_micros <= record.reserved_micros


async def _orders_add_up(rig: Rig, life: Life) -> None:
    stores, vendors = rig.stores, life.vendors
    assert [fault for vendor in vendors.values() for fault in vendor.faults] == []
    rows, ledger = await stores.rows(attempts), await stores.rows(ledger_entries)
    assert [row.attempt_id for row in rows if row.state == "RUNNING"] == []
    held = {entry.attempt_id for entry in ledger if entry.kind == "HOLD"}
    released = {entry.attempt_id for entry in ledger if entry.kind == "HOLD_RELEASE"}
    assert held - released == {row.attempt_id for row in rows if row.state == "UNKNOWN"}
    for row in rows:
        vendor = vendors[row.provider]
        if row.attempt_id not in vendor.sent:  # nobody knows that of a run that died
            assert row.state != "UNKNOWN" or row.epoch in life.lost
        elif row.state == "CANCELED":
            assert {vendor.sent[row.attempt_id], vendor.order_id(row.attempt_id)} & vendor.called_off
