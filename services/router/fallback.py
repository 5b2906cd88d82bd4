"""Asking one candidate after another until somebody draws: a plain loop that keeps every failure.

What a failure leads to stands in the table of `providers.errors`; this module only reads it. The loop places one order
at a time and returns with its pictures; the caller stores them and comes back for the indices still missing. All it
needs to know of earlier runs is the job's attempts, so another worker goes on where the last one stopped.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.router.breaker import Clock
from services.router.choices import Ask, Choice, Delivered, Failed, GaveUp, Later, Wanted
from services.router.hedging import race
from services.router.providers.errors import ErrorKind, Treatment, treatment


@dataclass
class History:
    """Every failure of a job's orders, oldest first."""

    failures: list[Failed] = field(default_factory=list)
    _resting: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, failure: Failed) -> None:
        """Remember one more."""
        self.failures.append(failure)

    def lost(self, provider: str, model: str) -> None:
        """Remember an order of unknown outcome that no answer told of."""
        told = any(f.provider == provider and f.kind is ErrorKind.UNKNOWN_OUTCOME for f in self.failures)
        if not told:
            self.add(Failed(provider, model, ErrorKind.UNKNOWN_OUTCOME, "it was called off while it drew"))

    def rest(self, choice: Choice, until: float) -> None:
        """Leave a choice alone for a while."""
        self._resting[choice.provider, choice.model] = until

    def resting(self, choice: Choice, now: float) -> float:
        """Seconds to leave it alone still."""
        return max(0.0, self._resting.get((choice.provider, choice.model), now) - now)

    def of(self, choice: Choice) -> list[Failed]:
        """The failures of one choice."""
        return [f for f in self.failures if (f.provider, f.model) == (choice.provider, choice.model)]

    def open(self, choice: Choice) -> bool:
        """Whether it may be asked at all: not after a lasting failure, nor too often after passing ones."""
        if any(f.provider == choice.provider and _whole_account(f, choice) for f in self.failures):
            return False
        mine = self.of(choice)
        return all(
            sum(f.kind is kind for f in mine) < allowance(treatment(kind, replay_safe=choice.replay_safe))
            for kind in {f.kind for f in mine}
        )


def _whole_account(failure: Failed, choice: Choice) -> bool:
    """Failures that close every model of the provider for this job."""
    if failure.kind is ErrorKind.UNKNOWN_OUTCOME:
        return not choice.replay_safe
    return failure.kind in (ErrorKind.AUTHENTICATION, ErrorKind.QUOTA)


def allowance(treat: Treatment) -> int:
    """How often a choice may fail this way before it is not asked any more."""
    return (treat.retries + 1) * (treat.rounds + 1) if treat.retries or treat.rounds else 1


def owed(missing: Sequence[int], most: int) -> tuple[int, ...]:
    """The indices of the next order: the first run of consecutive ones (their seeds count up), at most `most`."""
    run = [missing[0]]
    for index in missing[1:most]:
        if index != run[-1] + 1:
            break
        run.append(index)
    return tuple(run)


@dataclass(frozen=True)
class Pace:
    """How long to wait between tries."""

    first: float = 0.25
    """Seconds; upper bound of the first pause, doubling with each try."""
    longest: float = 4.0
    """Seconds; upper bound of any pause between tries in one run."""
    rest: float = 1.0
    """Seconds a choice is left alone after a failed round, doubling with each."""
    longest_rest: float = 15.0
    """Seconds at which doubling ends; from then on each failed round adds `lengthening`, up to `longest_park`."""
    lengthening: float = 0.5
    longest_park: float = 60.0
    inline: float = 1.0
    """Waits up to this are sat out; longer ones are told to the caller, who parks the job."""


class Fallback:
    """The loop. `gate(choice)` gives the seconds until breaker and rate limits let the choice be asked."""

    def __init__(
        self,
        gate: Callable[[Choice], float],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
        pace: Pace | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._sleep = sleep
        self._pace = pace or Pace()
        self._jitter = jitter

    async def obtain(self, wanted: Wanted, history: History, ask: Ask) -> Delivered | Later | GaveUp:
        """The first delivery that any candidate gives; what it leaves missing is for the next call."""
        if any(_decides(failure, wanted) for failure in history.failures):  # an earlier run's, or an earlier order's
            return give_up(history, wanted)
        while True:
            answer = await self._round(wanted, history, ask)
            if not isinstance(answer, Later) or answer.seconds > self._pace.inline or wanted.stopping():
                return answer
            await self._sleep(answer.seconds)

    async def _round(self, wanted: Wanted, history: History, ask: Ask) -> Delivered | Later | GaveUp:
        for choice in wanted.choices:
            answer = await self._ask_one(choice, wanted, history, ask)
            if answer is not None:
                return answer
        return self._next(wanted, history)

    async def _ask_one(self, choice: Choice, wanted: Wanted, history: History, ask: Ask) -> Delivered | GaveUp | None:
        tried = 0
        while self._may_ask(choice, wanted, history):
            answer = await self._answer(choice, wanted, history, ask)
            if isinstance(answer, Delivered):
                return answer
            treat = treatment(answer.kind, replay_safe=choice.replay_safe)
            if any(_decides(failure, wanted) for failure in history.failures):  # also of who was asked beside it
                return give_up(history, wanted)
            if tried >= treat.retries:
                history.rest(choice, self._clock() + self._rest_after(choice, history, answer))
                return None
            await self._sleep(self._jitter(0.0, min(self._pace.first * 2.0**tried, self._pace.longest)))
            tried += 1
        return None

    async def _answer(self, choice: Choice, wanted: Wanted, history: History, ask: Ask) -> Delivered | Failed:
        """What came of asking the choice; a second one's delivery where that was asked beside it and was faster."""

        def first() -> Coroutine[Any, Any, Delivered | Failed]:
            return ask(choice, owed(wanted.missing, choice.max_count))

        def beside() -> Coroutine[Any, Any, Delivered | Failed] | None:
            second = self._second(choice, wanted, history)
            return None if second is None else ask(second, owed(wanted.missing, second.max_count))

        after = wanted.hedge_after(choice)
        answers = [await first()] if after is None else await race(first, beside, after, _settles)
        for answer in answers:
            if isinstance(answer, Failed):
                history.add(answer)
        return _telling(answers, choice)

    def _second(self, choice: Choice, wanted: Wanted, history: History) -> Choice | None:
        """Whom to ask beside the choice: the next one at another provider that may be asked now."""
        others = (other for other in wanted.choices if other.provider != choice.provider)
        return next((other for other in others if self._may_ask(other, wanted, history)), None)

    def _may_ask(self, choice: Choice, wanted: Wanted, history: History) -> bool:
        now = self._clock()
        free = history.resting(choice, now) == 0 and self._gate(choice) == 0
        return now < wanted.ends and free and history.open(choice) and not wanted.stopping()

    def _rest_after(self, choice: Choice, history: History, answer: Failed) -> float:
        rounds = len(history.of(choice)) // (treatment(answer.kind, replay_safe=choice.replay_safe).retries + 1)
        pause = min(self._pace.rest * 2.0 ** min(rounds - 1, 10), self._pace.longest_rest)
        patience = min(rounds * self._pace.lengthening, self._pace.longest_park)
        return max(pause, patience, answer.retry_after or 0.0)

    def _next(self, wanted: Wanted, history: History) -> Later | GaveUp:
        now = self._clock()
        waits = [
            max(history.resting(choice, now), self._gate(choice)) for choice in wanted.choices if history.open(choice)
        ]
        if waits and now + min(waits) < wanted.ends:
            return Later(max(min(waits), 0.01))
        return give_up(history, wanted, out_of_time=bool(waits) or now >= wanted.ends)


def give_up(history: History, wanted: Wanted, *, out_of_time: bool = False) -> GaveUp:
    """The end of ordering: the failure that decided, or that all of them together did."""
    safe = _replay_safe(wanted)
    reasons = {treatment(f.kind, replay_safe=safe.get((f.provider, f.model), False)).reason for f in history.failures}
    told = "; ".join(_told(history.failures)) or "no candidate was asked"
    if any(f.kind is ErrorKind.REFUSED for f in history.failures):
        return GaveUp("PROVIDER_REFUSED", told, refused=True)
    if "ATTEMPT_OUTCOME_UNKNOWN" in reasons and _lost(history.failures, safe):
        return GaveUp("ATTEMPT_OUTCOME_UNKNOWN", told)
    if out_of_time:
        return GaveUp("DEADLINE_EXCEEDED", f"the job's deadline passed: {told}")
    if not wanted.choices:
        return GaveUp("NO_CANDIDATE", "no provider can draw this")
    return GaveUp(reasons.pop() if len(reasons) == 1 else "ALL_CANDIDATES_FAILED", told)


def _settles(answer: Delivered | Failed) -> bool:
    """Whether nobody else needs to be waited for: pictures came, or a refusal that nobody may be shopped around."""
    return isinstance(answer, Delivered) or answer.kind is ErrorKind.REFUSED


def _telling(answers: Sequence[Delivered | Failed], choice: Choice) -> Delivered | Failed:
    """The delivery, else a refusal, else what the choice itself said."""
    if _settles(answers[-1]):
        return answers[-1]
    mine = (a for a in answers if isinstance(a, Failed) and (a.provider, a.model) == (choice.provider, choice.model))
    return next(mine, answers[-1])


def _decides(failure: Failed, wanted: Wanted) -> bool:
    """Whether nobody may be asked after this failure, now or in a later run."""
    safe = _replay_safe(wanted).get((failure.provider, failure.model), False)
    if failure.kind is ErrorKind.UNKNOWN_OUTCOME:
        return wanted.fail_on_unknown and not safe
    return treatment(failure.kind, replay_safe=safe).stop


def _replay_safe(wanted: Wanted) -> dict[tuple[str, str], bool]:
    return {(choice.provider, choice.model): choice.replay_safe for choice in wanted.choices}


def _lost(failures: Iterable[Failed], safe: dict[tuple[str, str], bool]) -> bool:
    unknown = (f for f in failures if f.kind is ErrorKind.UNKNOWN_OUTCOME)
    return any(not safe.get((f.provider, f.model), False) for f in unknown)


def _told(failures: Sequence[Failed]) -> list[str]:
    """The last failure of each provider and model, at most five."""
    last = {(f.provider, f.model): f for f in failures}
    return [f"{f.provider}/{f.model}: {f.message or f.kind.value}" for f in list(last.values())[:5]]
