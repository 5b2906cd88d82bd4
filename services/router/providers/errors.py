"""How providers fail, and what the fallback does with each kind.

Adapters translate whatever their vendor says into one `ProviderError` at one border. The class decides everything that
follows; nobody looks at texts or status codes after that.

    ProviderError(kind)
      BAD_REQUEST      the provider says the request is wrong           next candidate, catalog-defect metric
      REFUSED          its safety filter refused                        stop: a refusal is never shopped elsewhere
      AUTHENTICATION   it does not accept our credentials               next, alert
      QUOTA            our account is empty                             next, alert
      RATE_LIMITED     we call too often                                next now; this one again after Retry-After
      UNREACHABLE      no request byte was sent (connect, DNS, TLS)     retried, then next; again until the deadline
      OVERLOADED       it took the request and failed on its side       retried, then next; again a few times
      TIMEOUT          no answer in time, and a repeat harms nobody     next; again a few times
      UNKNOWN_OUTCOME  it may have taken the request; no answer         never repeated there, unless replay-safe
      BROKEN_ANSWER    it answered, and the answer cannot be used       next; costs its worst case
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from services.router.providers.rates import RateHint


class ErrorKind(enum.StrEnum):
    """The classes of provider failures."""

    BAD_REQUEST = "BAD_REQUEST"
    REFUSED = "REFUSED"
    AUTHENTICATION = "AUTHENTICATION"
    QUOTA = "QUOTA"
    RATE_LIMITED = "RATE_LIMITED"
    UNREACHABLE = "UNREACHABLE"
    OVERLOADED = "OVERLOADED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"
    BROKEN_ANSWER = "BROKEN_ANSWER"


class Charge(enum.StrEnum):
    """What a failed attempt may have cost at the provider."""

    NONE = "NONE"
    """The provider did no work that it bills."""
    WORST_CASE = "WORST_CASE"
    """Counted as spent at the attempt's worst-case price."""
    HOLD = "HOLD"
    """Not known: held against the caps at the worst-case price until it is."""


@dataclass(frozen=True)
class Treatment:
    """What the fallback does after a failure of one kind."""

    reason: str
    """Reason of the contract (`imagemesh.type.v1.ErrorReason` without prefix) that the attempt shows."""
    stop: bool = False
    """End the job's ordering; no other candidate is asked."""
    retries: int = 0
    """How many more tries the same candidate gets at once, with full jitter between them."""
    rounds: int = 0
    """In how many later rounds, after a pause, the candidate may be asked again; `FOREVER` = until the deadline."""
    charge: Charge = Charge.NONE
    """What the failed attempt counts for in the ledger."""
    breaks: bool = True
    """Whether the failure counts against the breaker of provider and model."""
    alert: bool = False
    """Whether an operator has to act before the provider can work again."""


FOREVER = 1_000_000

TREATMENTS: Mapping[ErrorKind, Treatment] = {
    ErrorKind.BAD_REQUEST: Treatment("PROVIDER_BAD_REQUEST", breaks=False),
    ErrorKind.REFUSED: Treatment("PROVIDER_REFUSED", stop=True, breaks=False),
    ErrorKind.AUTHENTICATION: Treatment("PROVIDER_AUTHENTICATION", alert=True),
    ErrorKind.QUOTA: Treatment("PROVIDER_QUOTA", alert=True),
    ErrorKind.RATE_LIMITED: Treatment("PROVIDER_RATE_LIMITED", rounds=FOREVER, breaks=False),
    ErrorKind.UNREACHABLE: Treatment("PROVIDER_OVERLOADED", retries=1, rounds=FOREVER),
    ErrorKind.OVERLOADED: Treatment("PROVIDER_OVERLOADED", retries=2, rounds=4),
    ErrorKind.TIMEOUT: Treatment("PROVIDER_TIMEOUT", rounds=4),
    ErrorKind.UNKNOWN_OUTCOME: Treatment("ATTEMPT_OUTCOME_UNKNOWN", charge=Charge.HOLD),
    ErrorKind.BROKEN_ANSWER: Treatment("PROVIDER_BROKEN_ANSWER", charge=Charge.WORST_CASE),
}

REPLAYED = Treatment("ATTEMPT_OUTCOME_UNKNOWN", rounds=8)
"""UNKNOWN_OUTCOME at a replay-safe provider: asking again cannot charge or draw twice."""


def treatment(kind: ErrorKind, *, replay_safe: bool) -> Treatment:
    """What to do after a failure of `kind` at a provider that is, or is not, replay-safe."""
    if kind is ErrorKind.UNKNOWN_OUTCOME and replay_safe:
        return REPLAYED
    return TREATMENTS[kind]


class ProviderError(Exception):
    """A provider's failure, translated.

    `message` is public: it never carries the prompt, a key or a URL with a signature.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        retry_after: float | None = None,
        provider_request_id: str = "",
        status: int | None = None,
        rate: RateHint | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        """Seconds the provider asked us to stay away."""
        self.provider_request_id = provider_request_id
        """The provider's own id of the failed request, where it gave one."""
        self.status = status
        """HTTP status of the answer, where there was one."""
        self.rate = rate
        """What is left of the account's limits, where the answer said so."""

    def __repr__(self) -> str:
        return f"ProviderError({self.kind}, {self.message!r}, status={self.status})"


ASKING = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.RATE_LIMITED, ErrorKind.UNREACHABLE})
"""Classes that, once an order is taken, tell of the asking about it and nothing of the order."""


def of_placed(error: ProviderError, provider_request_id: str) -> ProviderError:
    """What a failure says of an order that was taken under this id (empty: none was): it may be drawn all the same."""
    if not provider_request_id or error.kind not in ASKING:
        return error
    return ProviderError(
        ErrorKind.UNKNOWN_OUTCOME, error.message, provider_request_id=provider_request_id, status=error.status
    )


class NothingToCheckError(ProviderError):
    """The vendor has no authenticated call that draws nothing and costs nothing."""

    def __init__(self, provider: str) -> None:
        super().__init__(ErrorKind.BAD_REQUEST, f"{provider} has no call that costs nothing")
