"""The way a job takes, read from top to bottom in `Pipeline.steps`.

Each step reads what the job row and its attempts say and may be repeated, so that another worker goes on where this one
stopped. A step that cannot go on parks the job; a step that decides the job's end says so, and the last step writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mesh import telemetry
from mesh.errors import Aborted, DeadlineExceeded, Internal, MeshError, ResourceExhausted, Unavailable
from services.router.choices import Delivered, GaveUp, Later
from services.router.delivery import Delivery
from services.router.fallback import Fallback
from services.router.inputs import Inputs
from services.router.jobs import JobState, WaitingFor
from services.router.judging import Judge, expire
from services.router.leases import Ended, Ending, LeaseLost, Parking
from services.router.orders import Orders, unfinished
from services.router.outcomes import ending_of, give_up
from services.router.planning import Planner, PlanRequest
from services.router.queue_store import QueueStore
from services.router.replanning import AllowedModels, likely, plan_request, wanted_of
from services.router.results import Results
from services.router.runs import Run

Moment = Literal["before", "after"]
StepHook = Callable[[str, Moment], Awaitable[None]]
"""Told the name of each step before and after it; crash tests stop here."""

PEER_TROUBLE = (Unavailable, DeadlineExceeded, ResourceExhausted, Internal)
"""What a peer's failure looks like when trying again later can help."""
WAITS = {"moderation": WaitingFor.MODERATION, "storage": WaitingFor.STORAGE}
SHORTEST_WAIT = 1.0
LONGEST_WAIT = 10.0


@dataclass(frozen=True)
class Released:
    """The worker is stopping: somebody else goes on from here."""


@dataclass(frozen=True)
class Again:
    """Go back to a step."""

    step: str


Outcome = Ended | Parking | Released
Turn = Outcome | Again | None


@dataclass(frozen=True)
class Step:
    """One step. `needed` says whether there is anything to do, so that nothing is traced for nothing."""

    name: str
    take: Callable[[Run], Awaitable[Turn]]
    needed: Callable[[Run], bool]


async def no_hook(_step: str, _moment: Moment) -> None:
    """Goes on."""


def pause_where_told(orders: Path) -> StepHook:
    """A hook for crash tests: where the file `orders` says `before:<step>` or `after:<step>`, it stops there for ever.

    On the way it renames the file to `<name>.reached`, so that it stops once, and the test knows.
    """

    async def hook(step: str, moment: Moment) -> None:
        if orders.exists() and orders.read_text(encoding="utf-8") == f"{moment}:{step}":  # noqa: ASYNC240 - a test's file
            orders.replace(orders.with_suffix(".reached"))  # noqa: ASYNC240
            await asyncio.Event().wait()

    return hook


@dataclass(frozen=True)
class Parts:
    """What the pipeline is made of."""

    queue: QueueStore
    planner: Callable[[], Planner]
    """The planner over the catalog as it is now."""
    inputs: Inputs
    judge: Judge
    results: Results
    orders: Orders
    fallback: Fallback
    delivery: Delivery
    allowed_models: AllowedModels
    warm: Callable[[str], None] = lambda _provider: None
    """This provider will probably be asked soon; see `providers.warming`."""


class Pipeline:
    """Walks jobs through their steps."""

    def __init__(self, parts: Parts, on_step: StepHook = no_hook) -> None:
        self._parts = parts
        self._on_step = on_step
        self.steps = (
            Step("bring_inputs", self._bring_inputs, lambda run: not run.committed and self._parts.inputs.needed(run)),
            Step("judge_text", self._judge_text, lambda run: not run.committed and not run.attempts),
            Step("judge_inputs", self._judge_inputs, lambda run: not run.committed and self._parts.inputs.needed(run)),
            Step("look_in_cache", self._look_in_cache, lambda run: not run.committed and not run.attempts),
            Step("plan", self._plan, lambda run: not run.committed and bool(run.missing)),
            Step("attempt", self._attempt, lambda run: not run.committed and bool(run.missing)),
            Step("store", self._store, lambda run: run.in_hand is not None),
            Step("judge_images", self._judge_images, lambda run: not run.committed and bool(run.pictures)),
            Step("publish", self._publish, lambda run: bool(run.pictures)),
            Step("end", self._end, lambda _: True),
        )
        self._positions = {step.name: number for number, step in enumerate(self.steps)}

    async def walk(self, run: Run) -> Outcome:
        """Take the job as far as it goes now.

        Raises:
            LeaseLost: somebody else has the job. CancelWonError: a cancel came before anything was let out.
        """
        position = 0
        for provider in likely(run, self._parts.planner().catalog):
            self._parts.warm(provider)
        while True:
            if run.grip.draining() and run.in_hand is None:
                return Released()
            turn = await self._take(self.steps[position], run)
            if isinstance(turn, Again):
                position = self._positions[turn.step]
            elif turn is not None:
                return turn
            else:
                position = len(self.steps) - 1 if run.ending is not None else position + 1

    async def cancel(self, run: Run) -> Ended:
        """End the job as canceled, and call off what is under way for it."""
        await self._parts.orders.call_off(run)
        return await self._parts.queue.finish(run.lease, Ending(JobState.CANCELED))

    async def _take(self, step: Step, run: Run) -> Turn:
        run.step = step.name
        await self._on_step(step.name, "before")
        turn = await self._traced(step, run) if step.needed(run) else None
        await self._on_step(step.name, "after")
        return turn

    async def _traced(self, step: Step, run: Run) -> Turn:
        with telemetry.span(f"step {step.name}", attributes={"imagemesh.step": step.name}) as span:
            try:
                turn = await step.take(run)
            except LeaseLost:
                raise
            except PEER_TROUBLE as error:
                span.fail(error)
                return self._wait(step, run, error)
            except MeshError as error:
                span.fail(error)
                raise_if_stale(error)
                if run.committed:  # its pictures may be out: only their own states may end it
                    return peer_wait(run, error)
                run.ending = Ending(JobState.FAILED, failure=error)
                return None
            if isinstance(turn, Parking):
                span.set("imagemesh.waiting_for", turn.waiting_for)
            return turn

    def _wait(self, step: Step, run: Run, error: MeshError) -> Parking | None:
        """Parks; but a job whose time for orders is over, and that ordered nothing, waits for moderation only."""
        parking = peer_wait(run, error)
        early = self._positions[step.name] < self._positions["attempt"] and not run.attempts
        if not early or parking.waiting_for == WaitingFor.MODERATION or run.clock() < run.ends:
            return parking
        run.ending = Ending(JobState.FAILED, failure=DeadlineExceeded(f"the job's deadline passed: {error.message}"))
        return None

    async def _bring_inputs(self, run: Run) -> Turn:
        await self._parts.inputs.bring(run)
        return None

    async def _judge_text(self, run: Run) -> Turn:
        return await self._parts.judge.texts(run)

    async def _judge_inputs(self, run: Run) -> Turn:
        """After the texts: what a picture shows may be harmless, and not beside what the prompt says."""
        return await self._parts.inputs.judge_all(run)

    async def _look_in_cache(self, run: Run) -> Turn:
        await self._parts.results.look(run, self._parts.planner().result_version(await self._request(run)))
        return None

    async def _plan(self, run: Run) -> Turn:
        try:
            run.candidates = self._parts.planner().plan(await self._request(run))
        except MeshError as error:
            if not run.attempts:
                raise
            give_up(run, GaveUp(error.reason, error.message))
        return None

    async def _request(self, run: Run) -> PlanRequest:
        return await plan_request(run, self._parts.planner().catalog, self._parts.allowed_models)

    async def _attempt(self, run: Run) -> Turn:
        stored = await self._parts.delivery.storage.answers() and not self._parts.delivery.hoard.full
        if not stored and run.clock() < run.ends:
            return Parking(WaitingFor.STORAGE, wait_for(run))
        await self._go_on(run)
        answer = await self._take_up(run) or await self._parts.fallback.obtain(
            wanted_of(run, self._parts.orders.choices(run), self._parts.planner().observed),
            run.history,
            lambda choice, indices: self._parts.orders.place(run, choice, indices),
        )
        if isinstance(answer, Later) and run.grip.draining():
            return Released()
        if isinstance(answer, Later):
            return Parking(WaitingFor.PROVIDER, min(answer.seconds, 60.0))
        if isinstance(answer, GaveUp):
            give_up(run, answer)
        else:
            run.in_hand = answer
        if run.options.routing.hedge:
            await self._parts.orders.call_off(run, "" if run.in_hand is None else run.in_hand.attempt_id)
        return None

    async def _take_up(self, run: Run) -> Delivered | None:
        """Orders of earlier runs come first."""
        for attempt in unfinished(run):
            del run.attempts[attempt.attempt_id]
            answer = await self._parts.orders.take_up(run, attempt)
            if isinstance(answer, Delivered):
                return answer
            run.history.add(answer)
        return None

    async def _store(self, run: Run) -> Turn:
        await self._parts.delivery.store(run)
        return Again("attempt") if run.missing else None

    async def _judge_images(self, run: Run) -> Turn:
        try:
            parking = await self._parts.judge.pictures(run)
        except PEER_TROUBLE:
            if run.clock() < run.grace_ends:
                raise
            expire(run)
            return None
        if parking is None:
            await self._go_on(run)
        return parking

    async def _publish(self, run: Run) -> Turn:
        await self._parts.delivery.publish(run)
        await self._go_on(run)
        return None

    async def _end(self, run: Run) -> Turn:
        return await self._parts.queue.finish(run.lease, run.ending or ending_of(run))

    async def _go_on(self, run: Run) -> None:
        """What the job waited for is there."""
        if run.waiting_for:
            await self._parts.queue.resume(run.lease)
            run.waiting_for = ""


def wait_for(run: Run) -> float:
    """How long to wait for a peer: short at first, growing with the age of the job's run."""
    running = (run.job.claim_time - run.job.start_time) / 1_000_000
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, running / 4))


def peer_wait(run: Run, error: MeshError) -> Parking:
    """Parks until the peer that failed answers again."""
    waiting_for = WAITS.get(error.metadata.get("peer", ""), WaitingFor.RETRY)
    return Parking(waiting_for, max(wait_for(run), min(error.retry_after or 0.0, 60.0)))


def raise_if_stale(error: MeshError) -> None:
    """A peer that knows a newer lease on the job says the same as the queue would."""
    if isinstance(error, Aborted) and error.reason == "STALE_EPOCH":
        raise LeaseLost(error.message) from error
