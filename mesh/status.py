"""Mesh errors on the wire: `google.rpc.Status` with one ErrorInfo, field violations and retry hints, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mesh.errors import (
    ERROR_TYPES,
    Code,
    DeadlineExceeded,
    FieldViolation,
    Internal,
    MeshError,
    Unavailable,
)

DOMAIN = "imagemesh"

STATUS_CODES: dict[Code, grpc.StatusCode] = {
    Code.CANCELED: grpc.StatusCode.CANCELLED,
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Code.ABORTED: grpc.StatusCode.ABORTED,
    Code.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Code.DATA_LOSS: grpc.StatusCode.DATA_LOSS,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
}
CODES = {grpc_code: code for code, grpc_code in STATUS_CODES.items()}


def to_rpc_status(error: MeshError) -> status_pb2.Status:
    """The `google.rpc.Status` that callers in any language read."""
    status = status_pb2.Status(code=int(error.code), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.append(_packed(info))
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations:
            bad.field_violations.add(field=violation.field, description=violation.description)
        status.details.append(_packed(bad))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def from_status(status: status_pb2.Status) -> MeshError:
    """The mesh error that `status` stands for; unknown codes become Internal."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    kind = ERROR_TYPES.get(Code(status.code), Internal) if status.code in set(Code) else Internal
    return kind(
        status.message,
        reason=info.reason,
        violations=[FieldViolation(v.field, v.description) for v in bad.field_violations],
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
        metadata=dict(info.metadata),
    )


def from_rpc_error(error: grpc.aio.AioRpcError, peer: str) -> MeshError:
    """The mesh error behind a failed call of `peer`; transport failures become Unavailable, PEER_UNAVAILABLE."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has the same three methods
    if status is not None:
        told = from_status(status)
        told.metadata.setdefault("peer", peer)  # a peer may tell of one behind it
        return told
    code = CODES.get(error.code(), Code.INTERNAL)
    if code is Code.UNAVAILABLE:
        return Unavailable(f"{peer} does not answer", metadata={"peer": peer})
    if code is Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded(f"{peer} did not answer in time", metadata={"peer": peer})
    return ERROR_TYPES[code](f"{peer}: {error.details()}", metadata={"peer": peer})


@contextmanager
def peer_errors(peer: str) -> Iterator[None]:
    """Inside it, a failed call of `peer` raises a MeshError instead of an AioRpcError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, peer) from error


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
