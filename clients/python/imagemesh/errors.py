"""What can go wrong, as one tree. Every error carries the contract's reason (imagemesh.type.v1.ErrorReason).

ImagemeshError
├── InvalidRequestError      a field is wrong; `violations` names each
├── NotFoundError            no such job, model, asset or key (or it is another tenant's)
├── ConflictError            the request id came before with another body; a stale etag
├── WrongStateError          not possible in the present state
├── AuthenticationError      the API key is missing or not valid
├── NotAllowedError          the key may not do this
├── LimitError               a budget, rate or queue limit; `retry_after` says when to come back
├── NotImplementedYetError   belongs to a later version of the mesh
├── UnavailableError         nobody answers, or a needed part does not; may be repeated
├── TimeLimitError           no end within the deadline; a job goes on regardless
├── CanceledError            the call was canceled
├── ServerError              a fault of the mesh itself
├── DownloadError            the picture could not be fetched, or is not what the job says
└── JobError                 the job ended without a picture; `job` holds it
    ├── JobFailedError
    ├── JobBlockedError      moderation or a provider's filter refused
    └── JobCanceledError
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from imagemesh.router.v1 import job_pb2


@dataclass(frozen=True)
class Violation:
    """One wrong field, by its path in the request, and what is allowed."""

    field: str
    description: str


@dataclass(frozen=True)
class Details:
    """code: a name of google.rpc.Code. reason: without the prefix ERROR_REASON_. retry_after: seconds, or None."""

    code: str = "UNKNOWN"
    reason: str = ""
    violations: Sequence[Violation] = ()
    retry_after: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class ImagemeshError(Exception):
    """Base of the tree. `message` is the mesh's own text, meant to be shown."""

    def __init__(self, message: str, details: Details) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def code(self) -> str:
        """A name of google.rpc.Code, such as NOT_FOUND."""
        return self.details.code

    @property
    def reason(self) -> str:
        """Why, for programs, such as JOB_NOT_FOUND; empty when the mesh could not be reached."""
        return self.details.reason

    @property
    def violations(self) -> Sequence[Violation]:
        """Every wrong field of the request."""
        return self.details.violations

    @property
    def retry_after(self) -> float | None:
        """Seconds after which a repeat may succeed, where the mesh says so."""
        return self.details.retry_after

    @property
    def metadata(self) -> Mapping[str, str]:
        """More for programs, such as the `nearest` names of a model."""
        return self.details.metadata


class InvalidRequestError(ImagemeshError):
    """A field is wrong."""


class NotFoundError(ImagemeshError):
    """It does not exist, or is another tenant's."""


class ConflictError(ImagemeshError):
    """It clashes with what is stored."""


class WrongStateError(ImagemeshError):
    """Not possible in the present state."""


class AuthenticationError(ImagemeshError):
    """The API key is missing or not valid."""


class NotAllowedError(ImagemeshError):
    """The key may not do this."""


class LimitError(ImagemeshError):
    """A budget, rate or queue limit is reached."""


class NotImplementedYetError(ImagemeshError):
    """Declared in the contract, and for a later version of the mesh."""


class UnavailableError(ImagemeshError):
    """Nobody answers, or a needed part does not."""


class TimeLimitError(ImagemeshError):
    """No end within the deadline."""


class CanceledError(ImagemeshError):
    """The call was canceled."""


class ServerError(ImagemeshError):
    """A fault of the mesh itself."""


class DownloadError(ImagemeshError):
    """A picture could not be fetched."""


class JobError(ImagemeshError):
    """The job ended without a picture."""

    def __init__(self, job: job_pb2.Job) -> None:
        message, details = read_status(job.error)
        if job.state == job_pb2.JOB_STATE_CANCELED and not details.reason:
            details = Details("CANCELLED", "CANCELED")
        super().__init__(message or f"the job ended {job_pb2.JobState.Name(job.state)[len('JOB_STATE_') :]}", details)
        self.job = job


class JobFailedError(JobError):
    """For a technical reason."""


class JobBlockedError(JobError):
    """Moderation or a provider's safety filter refused."""


class JobCanceledError(JobError):
    """Somebody canceled it."""


ERROR_TYPES: Mapping[str, type[ImagemeshError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "OUT_OF_RANGE": InvalidRequestError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": ConflictError,
    "ABORTED": ConflictError,
    "FAILED_PRECONDITION": WrongStateError,
    "UNAUTHENTICATED": AuthenticationError,
    "PERMISSION_DENIED": NotAllowedError,
    "RESOURCE_EXHAUSTED": LimitError,
    "UNIMPLEMENTED": NotImplementedYetError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": TimeLimitError,
    "CANCELLED": CanceledError,
    "INTERNAL": ServerError,
    "UNKNOWN": ServerError,
    "DATA_LOSS": ServerError,
}
JOB_ERRORS: Mapping[int, type[JobError]] = {
    job_pb2.JOB_STATE_FAILED: JobFailedError,
    job_pb2.JOB_STATE_BLOCKED: JobBlockedError,
    job_pb2.JOB_STATE_CANCELED: JobCanceledError,
}


def read_status(status: status_pb2.Status) -> tuple[str, Details]:
    """Message and details of a `google.rpc.Status`."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    known = status.code in code_pb2.Code.values()
    return status.message, Details(
        code=code_pb2.Code.Name(status.code) if known else "UNKNOWN",
        reason=info.reason,
        violations=tuple(Violation(v.field, v.description) for v in bad.field_violations),
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
        metadata=dict(info.metadata),
    )


def from_call(error: grpc.RpcError, target: str) -> ImagemeshError:
    """The error behind a failed call. Without a status of the mesh's own, the transport's text is told."""
    call = cast(grpc.Call, error)  # what stubs raise is both
    status = rpc_status.from_call(call)
    if status is not None:
        message, details = read_status(status)
    else:
        details = Details(code=call.code().name)
        message = f"{target} does not answer" if details.code == "UNAVAILABLE" else str(call.details())
    return ERROR_TYPES.get(details.code, ServerError)(message, details)


def raise_unless_done(job: job_pb2.Job) -> None:
    """Raises the JobError of an ended job that has no picture."""
    if job.state in JOB_ERRORS:
        raise JOB_ERRORS[job.state](job)
