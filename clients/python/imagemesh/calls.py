"""What both clients share: the channel, its credentials, when a call is repeated, which update a stream brings."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from imagemesh.errors import Details, ImagemeshError, UnavailableError
from imagemesh.router.v1 import job_pb2, job_service_pb2

ENDED = (
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_FAILED,
    job_pb2.JOB_STATE_BLOCKED,
    job_pb2.JOB_STATE_CANCELED,
)
Metadata = tuple[tuple[str, str | bytes], ...]
# Repeats are this library's own, with the same request id; gRPC's would be a second owner of the same decision.
CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


@dataclass(frozen=True)
class Retries:
    """Only after UNAVAILABLE, and only for calls that may be repeated. Waits (seconds) double from `first` to `most`,
    each with full jitter, and begin anew when a stream brought something."""

    attempts: int = 6
    first: float = 0.2
    most: float = 5.0

    def waits(self) -> Iterator[float]:
        """One wait before each repeat."""
        bound = self.first
        for _ in range(self.attempts - 1):
            yield random.uniform(bound / 2, bound)
            bound = min(bound * 2, self.most)


@dataclass(frozen=True)
class Connection:
    """How to reach the mesh.

    credentials: TLS; None speaks in clear, which is for loopback and for networks that encrypt by themselves. timeout:
    seconds for one unary call. metadata: sent with every call, such as a traceparent.
    """

    credentials: grpc.ChannelCredentials | None = None
    timeout: float = 30.0
    metadata: Metadata = ()
    retries: Retries = field(default_factory=Retries)

    def call_metadata(self, api_key: str) -> Metadata:
        """With the key, where there is one."""
        authorization = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        return (*self.metadata, *authorization)


def new_request_id() -> str:
    """Random, so that the mesh knows a repeated call by it."""
    return f"py-{secrets.token_hex(16)}"


def may_repeat(error: ImagemeshError, repeatable: bool) -> bool:
    """Whether the same call may be sent again."""
    return repeatable and isinstance(error, UnavailableError)


def is_last(update: job_service_pb2.GenerateImageResponse | job_service_pb2.WatchJobResponse) -> bool:
    """Whether the stream has said everything: the job has ended, or was only validated."""
    return update.HasField("job") and (update.job.state in ENDED or not update.job.job_id)


def broken_off(target: str) -> UnavailableError:
    """For a stream that ended before its job did, as a draining server ends it."""
    return UnavailableError(f"{target} ended the stream before the job had ended", Details("UNAVAILABLE"))


def next_wait(waits: Iterator[float], error: ImagemeshError) -> float:
    """Seconds before the next repeat; raises the error when there is none left. The mesh's own hint wins."""
    wait = next(waits, None)
    if wait is None:
        raise error
    return max(wait, error.retry_after or 0.0)
