"""One order at one provider: its row before the call, the call, its outcome after. An order is never placed twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from mesh.errors import MeshError, Unavailable
from mesh.ids import new_id
from services.router.attempt_store import AttemptEnd, AttemptStore, NewAttempt
from services.router.call_backs import CallBackAddress
from services.router.calls import Order, choice_of, provider_call, sources_of
from services.router.candidates import Candidate
from services.router.choices import Choice, Delivered, Failed
from services.router.jobs import AttemptState
from services.router.leases import Attempt, LeaseLost
from services.router.listening import OrderListener, Placed
from services.router.order_errors import canceled, never_sent, public_error
from services.router.peers.storage import Storage
from services.router.providers.base import Provider, ProviderCall, ProviderResult
from services.router.providers.errors import Charge, ErrorKind, ProviderError, of_placed, treatment
from services.router.runs import Paid, Run

WRITE_PAUSE = 0.25
"""Seconds between tries to write down a delivery while the database is busy."""

T = TypeVar("T")
_Calling = Callable[[OrderListener], Awaitable[ProviderResult]]


def _nowhere(_provider: str, _attempt_id: str) -> str:
    """Nobody can reach us."""
    return ""


@dataclass(frozen=True)
class Ordering:
    """How orders are placed. `lease_margin`: seconds the lease must outlive the moment of a POST, so that nobody else
    orders meanwhile. `address`: where vendors call back."""

    lease_margin: float = 4.0
    address: CallBackAddress = _nowhere
    make_id: Callable[[str], str] = new_id
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Orders:
    """Places orders and takes up those that earlier runs placed."""

    def __init__(
        self,
        attempts: AttemptStore,
        providers: Mapping[str, Provider],
        storage: Storage,
        ordering: Ordering | None = None,
    ) -> None:
        self._attempts = attempts
        self._providers = providers
        self._storage = storage
        self._how = ordering or Ordering()
        self._listening: dict[str, OrderListener] = {}

    def called_back(self, attempt_id: str) -> None:
        """A vendor has called back about an attempt; if we wait for it, we look now."""
        if attempt_id in self._listening:
            self._listening[attempt_id].wake()

    def choices(self, run: Run) -> list[Choice]:
        """The run's candidates as the fallback sees them."""
        return [choice_of(c, self._providers[c.provider]) for c in run.candidates if c.provider in self._providers]

    async def place(self, run: Run, choice: Choice, indices: tuple[int, ...]) -> Delivered | Failed:
        """Store the order, place it, and store its failure. A delivery's outcome is stored once its pictures are."""
        candidate = _candidate(run, choice)
        order = Order(run, self._how.make_id("att"), candidate, self._providers[choice.provider], indices)
        sources = await sources_of(run, self._storage)
        run.require_lease(self._how.lease_margin)
        await self._begin(order)
        call = replace(
            provider_call(order, sources, run.ends),
            callback_url=self._how.address(choice.provider, order.attempt_id),
        )
        return await self._settled(order, lambda listener: self._submit(order, call, listener))

    async def _begin(self, order: Order) -> None:
        try:
            await self._attempts.begin(order.run.lease, _row(order))
        except asyncio.CancelledError:  # it may have been written all the same
            with contextlib.suppress(MeshError):
                end = AttemptEnd(AttemptState.CANCELED, failure=never_sent())
                await self._attempts.finish(order.run.lease, order.attempt_id, end)
            raise

    async def take_up(self, run: Run, attempt: Attempt) -> Delivered | Failed:
        """Go on with an order that an earlier run placed and nobody finished. It is paid for: the grace bounds it."""
        provider = self._providers.get(attempt.provider)
        candidate = next(
            (c for c in run.candidates if c.provider == attempt.provider and c.model == attempt.model), None
        )
        if provider is None or candidate is None:
            return await self._abandon(run, attempt, "its provider is no longer in the catalog")
        order = Order(run, attempt.attempt_id, candidate, provider, attempt.indices)
        if not (provider.capabilities.resumable and attempt.provider_request_id):
            return await self._abandon(run, attempt, "the worker was lost while the provider drew")
        placed = Placed(attempt.provider_request_id, attempt.account)
        call = provider_call(order, await sources_of(run, self._storage), run.grace_ends)
        call = replace(call, account=placed.account)
        return await self._settled(order, lambda heard: provider.resume(call, placed.request_id, heard), placed)

    async def call_off(self, run: Run, but: str = "") -> None:
        """Call off at their providers what is under way, by any run, except the attempt `but`.

        For a job that is to be canceled, and for the slower one of two that were asked together: whose outcome is not
        known then is not asked again.
        """
        for attempt in await self._surely(run, lambda: self._attempts.list(run.lease.job_id)):
            known = attempt.state != AttemptState.UNKNOWN
            if attempt.state == AttemptState.RUNNING and attempt.attempt_id != but:
                known = await self._call_off(run, attempt)
            if not known:
                run.history.lost(attempt.provider, attempt.model)

    async def _call_off(self, run: Run, attempt: Attempt) -> bool:
        """Whether its outcome is known then: that it was called off, and not what ended it meanwhile."""
        free = True if attempt.replay_safe else await self._canceled_there(attempt)
        state = AttemptState.UNKNOWN if free is None else AttemptState.CANCELED
        end = AttemptEnd(state, failure=canceled(), cost_micros=attempt.worst_micros if free is False else 0)
        ours = await self._surely(run, lambda: self._attempts.finish(run.lease, attempt.attempt_id, end))
        return ours and free is not None

    async def _canceled_there(self, attempt: Attempt) -> bool | None:
        """Whether that was in time to cost nothing; None: it cannot be done, and the outcome is unknown."""
        provider = self._providers.get(attempt.provider)
        if provider is None or not (provider.capabilities.cancelable and attempt.provider_request_id):
            return None
        try:
            return await provider.at(attempt.account).cancel(attempt.provider_request_id)
        except ProviderError:
            return None

    async def succeeded(self, run: Run, delivered: Delivered, images: bytes, count: int) -> None:
        """The pictures of a delivery are stored: so many of them, as `images`."""
        candidate, result = _candidate(run, delivered.choice), delivered.result
        volume = 0
        if candidate.price.tiered:  # what was delivered must not be lost for want of a figure
            volume = await self._surely(run, lambda: self._attempts.bought_before(delivered.attempt_id))
        paid = Paid(candidate.provider, candidate.model, cost_of(candidate, result, volume), count)
        if candidate.dropped:
            run.cache_key = ""  # a later job is not served what was left out here
        end = AttemptEnd(
            AttemptState.SUCCEEDED,
            images=images,
            cost_micros=paid.cost_micros,
            provider_request_id=result.provider_request_id,
            model_version=result.model_version,
        )
        await self._surely(run, lambda: self._attempts.finish(run.lease, delivered.attempt_id, end))
        run.paid[delivered.attempt_id] = paid

    async def spoiled(self, run: Run, delivered: Delivered, message: str) -> Failed:
        """What was delivered turned out to be no pictures."""
        candidate = _candidate(run, delivered.choice)
        provider = self._providers[delivered.choice.provider]
        order = Order(run, delivered.attempt_id, candidate, provider, delivered.indices)
        return await self._failed(order, ProviderError(ErrorKind.BROKEN_ANSWER, message))

    async def _submit(self, order: Order, call: ProviderCall, listener: OrderListener) -> ProviderResult:
        def last_check() -> None:
            order.run.require_lease(self._how.lease_margin)
            listener.sent = True

        order.run.require_lease(self._how.lease_margin)
        try:
            return await order.provider.submit(replace(call, before_sending=last_check), listener)
        except ProviderError as error:
            told = await self._called_back_with(order, error) if not listener.placed.request_id else ""
            if not told:
                raise
        listener.placed = replace(listener.placed, request_id=told)
        again = replace(call, timeout=order.candidate.timeout_s, account=listener.placed.account)
        return await order.provider.resume(again, told, listener)

    async def _called_back_with(self, order: Order, error: ProviderError) -> str:
        """The vendor's id of an order whose answer did not arrive, if its call back told it meanwhile."""
        can = order.provider.capabilities
        if error.kind is not ErrorKind.UNKNOWN_OUTCOME or not (can.webhooks and can.resumable):
            return ""
        rows = await self._surely(order.run, lambda: self._attempts.list(order.run.lease.job_id))
        return next((row.provider_request_id for row in rows if row.attempt_id == order.attempt_id), "")

    async def _settled(self, order: Order, call: _Calling, placed: Placed | None = None) -> Delivered | Failed:
        planned = placed or Placed(account=order.account)
        listener = OrderListener(lambda known: self._identify(order, known), order.run.grip, planned)
        self._listening[order.attempt_id] = listener
        try:
            result = await call(listener)
        except ProviderError as failure:
            error = of_placed(failure, listener.placed.request_id)
            await self._stop_waiting(order, error, listener.placed.account)
            return await self._failed(order, error)
        except (asyncio.CancelledError, LeaseLost):
            with contextlib.suppress(MeshError):  # the lease may be lost; the next holder sees an unfinished order
                await self._broken_off(order, listener)
            raise
        finally:
            if self._listening.get(order.attempt_id) is listener:  # another run of ours may have taken it up
                del self._listening[order.attempt_id]
        if listener.placed.account != planned.account and not listener.placed.request_id:
            await self._identify(order, Placed(result.provider_request_id, listener.placed.account))
        return Delivered.of(order.attempt_id, order.choice, order.indices, result)

    async def _stop_waiting(self, order: Order, error: ProviderError, account: str) -> None:
        """Nobody waits any more for an order that the vendor may still draw: it is called off where that can be done.
        Whether it was in time is not known, so its outcome stays unknown."""
        waited = error.kind is ErrorKind.UNKNOWN_OUTCOME and error.provider_request_id
        if waited and order.provider.capabilities.cancelable:
            with contextlib.suppress(ProviderError):
                await order.provider.at(account).cancel(error.provider_request_id)

    async def _identify(self, order: Order, placed: Placed) -> None:
        run, known = order.run, (order.attempt_id, placed.request_id, placed.account)
        await self._surely(run, lambda: self._attempts.identify(run.lease, *known))

    async def _failed(self, order: Order, error: ProviderError) -> Failed:
        safe = order.provider.capabilities.replay_safe
        charge = treatment(error.kind, replay_safe=safe).charge
        end = AttemptEnd(
            AttemptState.UNKNOWN if charge is Charge.HOLD else AttemptState.FAILED,
            failure=public_error(error, safe),
            cost_micros=order.worst_micros if charge is Charge.WORST_CASE else 0,
            provider_request_id=error.provider_request_id,
        )
        await self._surely(order.run, lambda: self._attempts.finish(order.run.lease, order.attempt_id, end))
        return Failed(order.candidate.provider, order.candidate.model, error.kind, error.message, error.retry_after)

    async def _broken_off(self, order: Order, listener: OrderListener) -> None:
        """The task was stopped: an order that can be taken up or called off by its id is left to who comes next."""
        can, placed = order.provider.capabilities, listener.placed
        request_id = placed.request_id or order.provider.order_id(order.attempt_id)
        if listener.sent and request_id and (can.resumable or can.cancelable):
            await self._identify(order, replace(placed, request_id=request_id))  # the stop may have come before that
            return
        end = AttemptEnd(AttemptState.CANCELED, failure=canceled() if listener.sent else never_sent())
        if listener.sent and not can.replay_safe:
            end = AttemptEnd(AttemptState.UNKNOWN, failure=canceled())
        await self._attempts.finish(order.run.lease, order.attempt_id, end)

    async def _surely(self, run: Run, tried: Callable[[], Awaitable[T]]) -> T:
        """Writes a fact that only this run knows, or reads, again and again while the lease lasts."""
        while True:
            try:
                return await tried()
            except Unavailable:
                if run.grip.lease_left() <= WRITE_PAUSE:
                    raise
            await self._how.sleep(WRITE_PAUSE)

    async def _abandon(self, run: Run, attempt: Attempt, why: str) -> Failed:
        lost = ProviderError(ErrorKind.UNKNOWN_OUTCOME, why)
        state = AttemptState.FAILED if attempt.replay_safe else AttemptState.UNKNOWN
        failure = public_error(lost, attempt.replay_safe)
        await self._attempts.finish(run.lease, attempt.attempt_id, AttemptEnd(state, failure=failure))
        return Failed(attempt.provider, attempt.model, lost.kind, why)


def unfinished(run: Run) -> list[Attempt]:
    """Orders of earlier runs that nobody finished."""
    return [attempt for attempt in run.attempts.values() if attempt.state == AttemptState.RUNNING]


def cost_of(candidate: Candidate, result: ProviderResult, volume: int = 0) -> int:
    """What a delivery cost in micros: as the provider says, else by the price book. `volume`: see `actual_cost`."""
    if result.cost_micros is not None:
        return result.cost_micros
    return candidate.call_cost(len(result.images), result.usage, volume).micros


def _candidate(run: Run, choice: Choice) -> Candidate:
    return next(c for c in run.candidates if (c.provider, c.model) == (choice.provider, choice.model))


def _row(order: Order) -> NewAttempt:
    return NewAttempt(
        attempt_id=order.attempt_id,
        provider=order.candidate.provider,
        model=order.candidate.model,
        model_version=order.candidate.version,
        replay_safe=order.provider.capabilities.replay_safe,
        indices=order.indices,
        worst_micros=order.worst_micros,
        dropped=order.candidate.dropped,
        account=order.account,
        provider_request_id=order.provider.order_id(order.attempt_id),
    )
