"""How an order that brought nothing is shown: a provider's failure as an error of the contract, or a stop of ours."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.errors import Aborted, FailedPrecondition, InvalidArgument, MeshError, ResourceExhausted, Unavailable
from services.router.providers.errors import ErrorKind, ProviderError, treatment
from services.router.runs import KIND

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


def canceled() -> MeshError:
    """Nobody wants what was ordered any more."""
    return Aborted("the order was called off while the provider drew", reason="CANCELED")


def never_sent() -> MeshError:
    """Whoever was about to order was stopped first."""
    return Aborted("the order was given up before it was sent", reason="CANCELED")
