"""The queue's edge: takes jobs up to the free slots, keeps their leases alive, and stops without losing any.

One task a job; one heartbeat for all of them. Signals make things sooner and are never needed: a poll a second finds
new work, the heartbeat brings cancels and lost leases.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from mesh import telemetry
from mesh.errors import MeshError, Unavailable
from mesh.process import Background
from mesh.telemetry import TraceContext
from services.router.delivery import CancelWonError
from services.router.holds import Hold, Parts, WorkerConfig
from services.router.leases import ClaimedJob, ClaimRequest, Ended, LeaseLost, Parking
from services.router.pipeline import Outcome, Released
from services.router.runs import Run
from services.router.signals import BEGUN

log = telemetry.logger(__name__)
LANES = ("INTERACTIVE", "BATCH")


class Worker:
    """Works until told to stop. `run` once."""

    def __init__(self, config: WorkerConfig, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._held: dict[str, Hold] = {}
        self._look = asyncio.Event()
        self._waiting = dict.fromkeys(LANES, True)  # lanes that may hold work we have not taken
        self._beat_now = asyncio.Event()
        self._stopping = False

    @property
    def held(self) -> int:
        """Jobs it works on now."""
        return len(self._held)

    def wake(self, lane: str) -> None:
        """There may be work in a lane."""
        if lane in self._waiting:
            self._waiting[lane] = True
            self._look.set()

    def cancel_wanted(self, job_id: str) -> None:
        """A cancel was requested; the heartbeat asks the job's row whether that is so."""
        if job_id in self._held:
            self._beat_now.set()

    async def decided(self, subject: str, _payload: bytes) -> None:
        """A person decided about a job: the callback for the signal. Without it the job looks by itself, later."""
        try:
            await self._parts.queue.poke(subject.rpartition(".")[2])
        except MeshError as error:
            log.warning("a decision is heard later", reason=error.message)
        for lane in LANES:
            self.wake(lane)

    def called_back(self, attempt_id: str) -> None:
        """A vendor has called back about an attempt."""
        self._parts.called_back(attempt_id)

    async def run(self, stopping: asyncio.Event) -> None:
        """Claim and work until `stopping` is set, then hand over or finish what is held."""
        beating = Background("heartbeat", self._keep_alive)
        claiming = Background("claim", self._claim_for_ever)
        beating.start()
        claiming.start()
        await stopping.wait()
        self._stopping = True
        for hold in self._held.values():
            hold.stopping = True
        await claiming.stop()
        await self._drain()
        await beating.stop()

    async def _claim_for_ever(self) -> None:
        poll_at = self._parts.clock()
        while True:
            self._look.clear()
            if self._parts.clock() >= poll_at:  # however many signals come: none is sent for wake-ups and lost leases
                self._waiting = dict.fromkeys(LANES, True)
                poll_at = self._parts.clock() + self._config.poll_s
            try:
                await self._claim()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may work
                log.warning("cannot claim", error=type(error).__name__)
            if await self._look_within(max(0.0, poll_at - self._parts.clock())) and self.held > 1:
                await asyncio.sleep(self._config.gather_s)

    async def _look_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):  # wait_for may swallow the cancel that stops this worker
                await self._look.wait()
        except TimeoutError:
            return False
        return True

    async def _claim(self) -> None:
        """Fill the free slots from the lanes that may hold work; a lane that gave less than asked is empty."""
        for lane in [lane for lane, waiting in self._waiting.items() if waiting]:
            wanted = min(self._free(lane), self._config.claim_most)
            if wanted > 0:
                self._waiting[lane] = False
                if await self._claim_lane(lane, wanted) == wanted:
                    self.wake(lane)

    def _free(self, lane: str) -> int:
        free = self._config.slots - self.held
        if lane != "BATCH":
            return free
        return min(free, self._config.batch_slots - sum(hold.job.lane == lane for hold in self._held.values()))

    async def _claim_lane(self, lane: str, limit: int) -> int:
        request = ClaimRequest(self._config.owner, lane, limit, self._config.lease_s)
        sent = self._parts.clock()
        claiming = asyncio.ensure_future(self._parts.queue.claim(request))
        try:
            await asyncio.wait({claiming})
        except asyncio.CancelledError:  # what is being written is ours all the same: taken here, handed back at once
            await asyncio.wait({claiming})
            if claiming.exception() is None:
                self._take_all(claiming.result(), sent)
            raise
        return self._take_all(claiming.result(), sent)

    def _take_all(self, jobs: Sequence[ClaimedJob], claimed: float) -> int:
        for job in jobs:
            self._take(Hold(job, self._config, self._parts), claimed)
        return len(jobs)

    def _take(self, hold: Hold, claimed: float) -> None:
        """Work on a job. Our own earlier hold on it, if its lease ran out unnoticed, is over."""
        job_id = hold.job.lease.job_id
        earlier = self._held.get(job_id)
        if earlier is not None:
            earlier.lost = True
            earlier.interrupt()
        hold.leased_until = claimed + self._config.lease_s
        hold.stopping = self._stopping
        self._held[job_id] = hold
        hold.task = asyncio.create_task(self._work(hold), name=job_id)

    async def _work(self, hold: Hold) -> None:
        job = hold.job
        self._tell_version(hold, BEGUN)
        try:
            with _traced(job) as span:
                hold.run = self._parts.runs.open(job, hold)
                hold.run.place = telemetry.current()
                await self._finish(hold, await self._walk(hold))
                span.set("imagemesh.job.step", hold.run.step)
        except LeaseLost:
            log.warning("lease lost", job_id=job.lease.job_id)
        except Unavailable as error:
            await self._hand_back(hold, error)
        except Exception as error:
            log.error("job broke", job_id=job.lease.job_id, error=type(error).__name__, exc_info=error)
        finally:
            if self._held.get(job.lease.job_id) is hold:
                del self._held[job.lease.job_id]
            if any(self._waiting.values()):
                self._look.set()

    async def _walk(self, hold: Hold) -> Outcome:
        assert hold.run is not None
        try:
            if hold.cancel_requested and not hold.run.committed:
                raise CancelWonError
            return await self._parts.pipeline.walk(hold.run)
        except CancelWonError:
            hold.cancel_requested = True
            return await self._parts.pipeline.cancel(hold.run)
        except asyncio.CancelledError:
            return await self._interrupted(hold, hold.run)

    async def _interrupted(self, hold: Hold, run: Run) -> Outcome:
        """The task was told to stop: by a cancel of the job, a lost lease, or the end of this worker."""
        if hold.task is not None:
            hold.task.uncancel()
        if hold.lost:
            raise LeaseLost(f"the lease on {hold.job.lease.job_id} is lost")
        if hold.cancel_requested:
            return await self._parts.pipeline.cancel(run)
        return Released()

    async def _finish(self, hold: Hold, outcome: Outcome) -> None:
        lease, run = hold.job.lease, hold.run
        assert run is not None
        if isinstance(outcome, Ended):
            hold.version = outcome.version
        elif isinstance(outcome, Parking):
            hold.version += outcome.waiting_for != run.waiting_for
            parking = Parking(outcome.waiting_for, outcome.wake_in_s, run.place.traceparent)
            await self._parts.queue.park(lease, parking)
        else:
            await self._parts.queue.release(lease, run.place.traceparent)
            return
        self._tell_version(hold)

    async def _hand_back(self, hold: Hold, error: Unavailable) -> None:
        """Our own database did not answer: let the job go if that can be written, else its lease runs out."""
        log.warning("job handed back", job_id=hold.job.lease.job_id, reason=error.message)
        with contextlib.suppress(MeshError):
            await self._parts.queue.park(hold.job.lease, Parking(hold.job.waiting_for or "RETRY", 1.0))

    def _tell_version(self, hold: Hold, more: bytes = b"") -> None:
        self._parts.tell(f"job.{hold.job.lease.job_id}", b"%d%b" % (hold.version, more))

    async def _keep_alive(self) -> None:
        pause = self._config.lease_s / 3
        while True:
            self._beat_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._beat_now.wait()
            try:
                await self._beat()
            except Exception as error:  # noqa: BLE001 - leases last longer than one missed beat
                log.warning("no heartbeat", error=type(error).__name__)

    async def _beat(self) -> None:
        holds = dict(self._held)
        if not holds:
            return
        sent = self._parts.clock()
        beats = [hold.beat for hold in holds.values()]
        pulse = await self._parts.queue.heartbeat(self._config.owner, beats, self._config.lease_s)
        for job_id, hold in holds.items():
            if job_id in pulse.lost:
                hold.lost = True
                hold.interrupt()
                continue
            hold.leased_until = sent + self._config.lease_s
            if job_id in pulse.cancel and not hold.cancel_requested:
                hold.cancel_requested = True
                hold.interrupt()

    async def _drain(self) -> None:
        """Jobs between steps are handed over; orders under way get their time, then are given up."""
        holds = list(self._held.values())
        tasks = [hold.task for hold in holds if hold.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._config.drain_s)
        for hold in holds:
            if hold.task in late:
                hold.interrupt()
        if late:
            await asyncio.wait(late, timeout=5.0)


@contextlib.contextmanager
def _traced(job: ClaimedJob) -> Iterator[telemetry.Span]:
    """One span a run, in the job's own trace, linked to the run before."""
    parent = TraceContext(job.traceparent, job.tracestate)
    links = [TraceContext(job.run_traceparent, "")] if job.run_traceparent else []
    attributes: dict[str, telemetry.Value] = {
        "messaging.system": "imagemesh",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.lane,
        "imagemesh.job.id": job.lease.job_id,
        "imagemesh.job.epoch": job.lease.epoch,
    }
    with telemetry.span("process job", kind="consumer", attributes=attributes, parent=parent, links=links) as span:
        yield span
