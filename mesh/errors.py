"""The error tree of the mesh.

    MeshError
    ├── InvalidArgument      a field is wrong; the violations name each one and the fix
    ├── NotFound             no such thing, or not this tenant's
    ├── AlreadyExists        the id is taken by something else
    ├── FailedPrecondition   the thing is not in the state that the call needs
    ├── PermissionDenied     known caller, not allowed
    ├── Unauthenticated      unknown caller
    ├── ResourceExhausted    a limit, a budget or a full queue
    ├── Unavailable          a peer or this service does not answer now; repeating may help
    ├── DeadlineExceeded     the time given is over
    ├── Unimplemented        declared in the contract, built in a later version
    ├── Aborted              somebody else changed the state first
    ├── Canceled             the caller went away
    ├── DataLoss             bytes did not arrive whole
    └── Internal             a fault of ours

Domain code raises these; `mesh.status` turns them into `google.rpc.Status` at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """Canonical status codes, numbered as in `google.rpc.Code`."""

    CANCELED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True)
class FieldViolation:
    """One wrong field of a request: its path (`spec.size.width`) and what to send instead."""

    field: str
    description: str


class MeshError(Exception):
    """A failure with a canonical code, a reason programs can branch on, and a text fit for the caller.

    `reason` is a name of `imagemesh.type.v1.ErrorReason` without its prefix; `retry_after` is in seconds.
    """

    code = Code.INTERNAL
    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.violations = tuple(violations)
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})


class InvalidArgument(MeshError):
    """A field is missing, malformed or out of range."""

    code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_FIELD"


class NotFound(MeshError):
    """The thing does not exist, or belongs to another tenant."""

    code = Code.NOT_FOUND


class AlreadyExists(MeshError):
    """The id is taken by something else."""

    code = Code.ALREADY_EXISTS


class FailedPrecondition(MeshError):
    """The thing is not in the state that the call needs."""

    code = Code.FAILED_PRECONDITION
    default_reason = "WRONG_STATE"


class PermissionDenied(MeshError):
    """The caller is known and not allowed."""

    code = Code.PERMISSION_DENIED
    default_reason = "ROLE_NOT_ALLOWED"


class Unauthenticated(MeshError):
    """The caller is not known."""

    code = Code.UNAUTHENTICATED
    default_reason = "KEY_INVALID"


class ResourceExhausted(MeshError):
    """A limit, a budget or a queue is full."""

    code = Code.RESOURCE_EXHAUSTED
    default_reason = "RATE_LIMITED"


class Unavailable(MeshError):
    """A service does not answer now; the call may be repeated."""

    code = Code.UNAVAILABLE
    default_reason = "PEER_UNAVAILABLE"


class DeadlineExceeded(MeshError):
    """The time given is over."""

    code = Code.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Unimplemented(MeshError):
    """Declared in the contract, built in a later version."""

    code = Code.UNIMPLEMENTED
    default_reason = "NOT_IMPLEMENTED"


class Aborted(MeshError):
    """Somebody else changed the state first."""

    code = Code.ABORTED
    default_reason = "STALE_EPOCH"


class Canceled(MeshError):
    """The caller went away or asked to stop."""

    code = Code.CANCELED
    default_reason = "CANCELED"


class DataLoss(MeshError):
    """Bytes did not arrive whole."""

    code = Code.DATA_LOSS
    default_reason = "CHECKSUM_MISMATCH"


class Internal(MeshError):
    """A fault of the mesh itself."""

    code = Code.INTERNAL


ERROR_TYPES: Mapping[Code, type[MeshError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        PermissionDenied,
        Unauthenticated,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Unimplemented,
        Aborted,
        Canceled,
        DataLoss,
        Internal,
    )
}


def invalid(field: str, fix: str) -> InvalidArgument:
    """An InvalidArgument about one field; `fix` says what to send instead."""
    return InvalidArgument(f"{field}: {fix}", violations=(FieldViolation(field, fix),))


def unimplemented(what: str, instead: str = "") -> Unimplemented:
    """An Unimplemented that names the rpc or field and, where there is one, what to use instead."""
    text = f"{what} belongs to a later version of imagemesh"
    return Unimplemented(f"{text}; {instead}" if instead else text)
