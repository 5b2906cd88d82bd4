"""One order at one provider: its row before the call, the call, its outcome after. An order is never placed twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from mesh.errors import Aborted, FailedPrecondition, InvalidArgument, MeshError, ResourceExhausted, Unavailable
from mesh.ids import new_id
from services.router.attempt_store import AttemptEnd, AttemptStore, NewAttempt
from services.router.candidates import Candidate
from services.router.fallback import Choice, Delivered, Failed
from services.router.jobs import AttemptState
from services.router.leases import Attempt
from services.router.listening import OrderListener
from services.router.peers.storage import Storage
from services.router.providers.base import InputImage, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import Charge, ErrorKind, ProviderError, treatment
from services.router.runs import KIND, Paid, Run
from services.router.specs import picture_seed

WRITE_PAUSE = 0.25
"""Seconds between tries to write down a delivery while the database is busy."""

ERRORS: Mapping[ErrorKind, type[MeshError]] = {
    ErrorKind.BAD_REQUEST: InvalidArgument,
    ErrorKind.REFUSED: FailedPrecondition,
    ErrorKind.QUOTA: ResourceExhausted,
    ErrorKind.RATE_LIMITED: ResourceExhausted,
    ErrorKind.UNKNOWN_OUTCOME: Aborted,
}
"""The canonical error that an attempt shows, by class; the others are Unavailable."""


def public_error(error: ProviderError, replay_safe: bool) -> MeshError:
    """The failure as the attempt shows it; its class stays readable for later runs."""
    shown = ERRORS.get(error.kind, Unavailable)
    reason = treatment(error.kind, replay_safe=replay_safe).reason
    return shown(error.message, reason=reason, retry_after=error.retry_after, metadata={KIND: error.kind.value})


@dataclass(frozen=True)
class _Order:
    run: Run
    attempt_id: str
    candidate: Candidate
    provider: Provider
    indices: tuple[int, ...]

    @property
    def choice(self) -> Choice:
        return choice_of(self.candidate, self.provider)

    @property
    def worst_micros(self) -> int:
        return self.candidate.call_worst_case(len(self.indices)).micros


_Calling = Callable[[OrderListener], Awaitable[ProviderResult]]


class Orders:
    """Places orders and takes up those that earlier runs placed."""

    def __init__(
        self,
        attempts: AttemptStore,
        providers: Mapping[str, Provider],
        storage: Storage,
        lease_margin: float = 4.0,
        make_id: Callable[[str], str] = new_id,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`lease_margin`: seconds the lease must outlive the moment of a POST, so that nobody else orders meanwhile."""
        self._attempts = attempts
        self._providers = providers
        self._storage = storage
        self._margin = lease_margin
        self._make_id = make_id
        self._sleep = sleep

    def choices(self, run: Run) -> list[Choice]:
        """The run's candidates as the fallback sees them."""
        return [choice_of(c, self._providers[c.provider]) for c in run.candidates if c.provider in self._providers]

    async def place(self, run: Run, choice: Choice, indices: tuple[int, ...]) -> Delivered | Failed:
        """Store the order, place it, and store its failure. A delivery's outcome is stored once its pictures are."""
        candidate = _candidate(run, choice)
        order = _Order(run, self._make_id("att"), candidate, self._providers[choice.provider], indices)
        images = await self._images(run)
        run.require_lease(self._margin)
        await self._attempts.begin(run.lease, _row(order))
        call = replace(provider_call(order, images, run.ends), before_sending=lambda: run.require_lease(self._margin))
        return await self._settled(order, lambda listener: self._submit(order, call, listener))

    async def take_up(self, run: Run, attempt: Attempt) -> Delivered | Failed:
        """Go on with an order that an earlier run placed and nobody finished. It is paid for: the grace bounds it."""
        provider = self._providers.get(attempt.provider)
        candidate = next(
            (c for c in run.candidates if c.provider == attempt.provider and c.model == attempt.model), None
        )
        if provider is None or candidate is None:
            return await self._abandon(run, attempt, "its provider is no longer in the catalog")
        order = _Order(run, attempt.attempt_id, candidate, provider, attempt.indices)
        if not (provider.capabilities.resumable and attempt.provider_request_id):
            return await self._abandon(run, attempt, "the worker was lost while the provider drew")
        call, request_id = provider_call(order, await self._images(run), run.grace_ends), attempt.provider_request_id
        return await self._settled(order, lambda listener: provider.resume(call, request_id, listener), request_id)

    async def call_off(self, run: Run) -> None:
        """Call off at their providers what is under way, by any run; for a job that is to be canceled."""
        for attempt in await self._attempts.list(run.lease.job_id):
            if attempt.state == AttemptState.RUNNING:
                off = await self._canceled_there(attempt) or attempt.replay_safe
                end = AttemptEnd(AttemptState.CANCELED if off else AttemptState.UNKNOWN, failure=_canceled())
                await self._attempts.finish(run.lease, attempt.attempt_id, end)

    async def _canceled_there(self, attempt: Attempt) -> bool:
        provider = self._providers.get(attempt.provider)
        if provider is None or not (provider.capabilities.cancelable and attempt.provider_request_id):
            return False
        try:
            await provider.cancel(attempt.provider_request_id)
        except ProviderError:
            return False
        return True

    async def succeeded(self, run: Run, delivered: Delivered, images: bytes, count: int) -> None:
        """The pictures of a delivery are stored: so many of them, as `images`."""
        candidate, result = _candidate(run, delivered.choice), delivered.result
        paid = Paid(candidate.provider, candidate.model, cost_of(candidate, result), count)
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
        order = _Order(run, delivered.attempt_id, candidate, provider, delivered.indices)
        return await self._failed(order, ProviderError(ErrorKind.BROKEN_ANSWER, message))

    async def _submit(self, order: _Order, call: ProviderCall, listener: OrderListener) -> ProviderResult:
        order.run.require_lease(self._margin)
        return await order.provider.submit(call, listener)

    async def _settled(self, order: _Order, call: _Calling, request_id: str = "") -> Delivered | Failed:
        listener = OrderListener(lambda known: self._identify(order, known), order.run.grip, request_id)
        try:
            result = await call(listener)
        except ProviderError as error:
            return await self._failed(order, error)
        except asyncio.CancelledError:
            with contextlib.suppress(MeshError):  # the lease may be lost; the next holder sees an unfinished order
                await self._broken_off(order, listener.request_id)
            raise
        return Delivered(order.attempt_id, order.choice, order.indices[: len(result.images)], result)

    async def _identify(self, order: _Order, request_id: str) -> None:
        run = order.run
        await self._surely(run, lambda: self._attempts.identify(run.lease, order.attempt_id, request_id))

    async def _failed(self, order: _Order, error: ProviderError) -> Failed:
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

    async def _broken_off(self, order: _Order, request_id: str) -> None:
        """The task was canceled: an order that can be taken up or called off by its id is left to who comes next."""
        can = order.provider.capabilities
        if request_id and (can.resumable or can.cancelable):
            await self._identify(order, request_id)  # the cancel may have come before it was stored
        else:
            state = AttemptState.CANCELED if can.replay_safe else AttemptState.UNKNOWN
            await self._attempts.finish(order.run.lease, order.attempt_id, AttemptEnd(state, failure=_canceled()))

    async def _surely(self, run: Run, write: Callable[[], Awaitable[None]]) -> None:
        """Writes a fact that only this run knows, again and again while the lease lasts."""
        while True:
            try:
                return await write()
            except Unavailable:
                if run.grip.lease_left() <= WRITE_PAUSE:
                    raise
            await self._sleep(WRITE_PAUSE)

    async def _abandon(self, run: Run, attempt: Attempt, why: str) -> Failed:
        lost = ProviderError(ErrorKind.UNKNOWN_OUTCOME, why)
        state = AttemptState.FAILED if attempt.replay_safe else AttemptState.UNKNOWN
        failure = public_error(lost, attempt.replay_safe)
        await self._attempts.finish(run.lease, attempt.attempt_id, AttemptEnd(state, failure=failure))
        return Failed(attempt.provider, attempt.model, lost.kind, why)

    async def _images(self, run: Run) -> tuple[InputImage, ...]:
        found = [await self._storage.read(run.holder, image.asset_id) for image in run.spec.images]
        return tuple(InputImage(data, media_type) for data, media_type in found)


def choice_of(candidate: Candidate, provider: Provider) -> Choice:
    """The candidate as the fallback sees it."""
    most = min(candidate.count_per_call, provider.capabilities.max_count)
    return Choice(candidate.provider, candidate.model, most, provider.capabilities.replay_safe)


def unfinished(run: Run) -> list[Attempt]:
    """Orders of earlier runs that nobody finished."""
    return [attempt for attempt in run.attempts.values() if attempt.state == AttemptState.RUNNING]


def cost_of(candidate: Candidate, result: ProviderResult) -> int:
    """What a delivery cost in micros: as the provider says, else by the price book."""
    if result.cost_micros is not None:
        return result.cost_micros
    return candidate.call_cost(len(result.images), result.usage).micros


def provider_call(order: _Order, images: tuple[InputImage, ...], ends: float) -> ProviderCall:
    """The order in the provider's terms; `ends`, on the run's clock, bounds it as the model's own timeout does."""
    run, spec, candidate = order.run, order.run.spec, order.candidate
    return ProviderCall(
        attempt_id=order.attempt_id,
        tenant=run.job.tenant,
        model=candidate.provider_model,
        model_id=candidate.model,
        model_version=candidate.version,
        prompt=spec.prompt,
        timeout=max(0.0, min(candidate.timeout_s, ends - run.clock())),
        operation=spec.operation.value,
        negative_prompt=spec.negative_prompt,
        width=candidate.size.width,
        height=candidate.size.height,
        count=len(order.indices),
        seed=_seed(order),
        steps=candidate.steps or None,
        guidance=spec.guidance,
        scheduler=spec.scheduler,
        output_format=spec.output.format,
        compression=spec.output.quality,
        quality=candidate.quality,
        transparent_background=spec.output.transparent_background,
        user=run.job.user,
        options=spec.provider_options.get(candidate.provider, {}),
        images=images,
    )


def _seed(order: _Order) -> int | None:
    takes = order.candidate.capabilities.seed and order.provider.capabilities.seed
    seed = order.run.spec.seed
    return picture_seed(seed, order.indices[0]) if takes and seed is not None else None


def _candidate(run: Run, choice: Choice) -> Candidate:
    return next(c for c in run.candidates if (c.provider, c.model) == (choice.provider, choice.model))


def _row(order: _Order) -> NewAttempt:
    return NewAttempt(
        attempt_id=order.attempt_id,
        provider=order.candidate.provider,
        model=order.candidate.model,
        model_version=order.candidate.version,
        replay_safe=order.provider.capabilities.replay_safe,
        indices=order.indices,
        worst_micros=order.worst_micros,
    )


def _canceled() -> MeshError:
    return Aborted("the job was canceled while the provider drew", reason="CANCELED")
