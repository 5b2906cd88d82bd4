"""The gRPC server every service runs: the same guards around every call, health, reflection, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from mesh import telemetry
from mesh.auth import Authenticator, acting_as
from mesh.errors import Internal, InvalidArgument, MeshError
from mesh.health import Check, Health
from mesh.status import STATUS_CODES, to_rpc_status
from mesh.telemetry import TraceContext

MESSAGE_LIMIT = 8 * 1024 * 1024
CONCURRENT_RPCS = 12_000  # above the router's limit of watched jobs; what is over it is refused by gRPC itself
DETAILS_KEY = "grpc-status-details-bin"

log = telemetry.logger(__name__)


@dataclass(frozen=True)
class ServerConfig:
    """host and port: where to listen, port 0 takes a free one. drain_seconds: for running calls after `stop`.
    message_bytes: the largest request.
    """

    host: str = "127.0.0.1"
    port: int = 0
    drain_seconds: float = 20.0
    message_bytes: int = MESSAGE_LIMIT


@dataclass
class Call:
    """One running rpc, as the guards see it."""

    method: MethodDescriptor
    metadata: Mapping[str, str]
    context: grpc.aio.ServicerContext[Any, Any]
    code: str = "OK"


class Server:
    """A gRPC server. `start` and `stop` may each be called once; `stop` before `start` only closes."""

    def __init__(
        self, config: ServerConfig, authenticator: Authenticator, checks: Mapping[str, Check] | None = None
    ) -> None:
        self._config = config
        self.port = config.port
        self.health = Health(checks or {})
        self._methods: dict[str, MethodDescriptor] = {}
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=CONCURRENT_RPCS,
            interceptors=[GuardInterceptor(self._methods, authenticator)],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", config.message_bytes),
                ("grpc.max_send_message_length", MESSAGE_LIMIT),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )

    def add(self, service: ServiceDescriptor, servicer: Any, register: Callable[[Any, Any], None]) -> None:
        """Adds a servicer; `register` is the generated `add_…Servicer_to_server`."""
        for method in service.methods:
            self._methods[f"/{service.full_name}/{method.name}"] = method
        register(servicer, self._server)

    async def start(self) -> None:
        """Listens, then reports health; `port` is the real one afterwards."""
        self.health.register(self._server)
        services = {method.containing_service.full_name for method in self._methods.values()}
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*sorted(services), health_name, reflection.SERVICE_NAME), self._server)
        self.port = self._server.add_insecure_port(f"{self._config.host}:{self._config.port}")
        await self._server.start()
        await self.health.start()
        log.info("serving", port=self.port)

    async def stop(self) -> None:
        """Reports NOT_SERVING, refuses new calls, and lets running ones end within `drain_seconds`."""
        await self.health.drain()
        await self._server.stop(self._config.drain_seconds)


class GuardInterceptor(grpc.aio.ServerInterceptor):
    """Puts the guards around every rpc of ours, unary and streaming alike; health and reflection pass through."""

    def __init__(self, methods: Mapping[str, MethodDescriptor], authenticator: Authenticator) -> None:
        self._methods = methods
        self._authenticator = authenticator
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """See `grpc.aio.ServerInterceptor`; a method's wrapped handler is made once."""
        name = handler_call_details.method
        wrapped = self._wrapped.get(name)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or name not in self._methods:
            return handler
        self._wrapped[name] = _wrap(handler, self._methods[name], self._authenticator)
        return self._wrapped[name]


def _wrap(handler: Any, method: MethodDescriptor, authenticator: Authenticator) -> Any:
    """The handler behind the guards. It takes raw bytes, so that a malformed message is our error and not gRPC's."""
    decode = _decoder(handler.request_deserializer)
    target = handler.stream_stream or handler.stream_unary or handler.unary_stream or handler.unary_unary
    prepare: Callable[[Any], Any] = (lambda stream: _decoded(stream, decode)) if handler.request_streaming else decode

    async def unary(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        async with _guarded(_call(method, context), authenticator):
            return await target(prepare(request), context)

    async def streaming(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        async with _guarded(_call(method, context), authenticator):
            async for message in target(prepare(request), context):
                yield message

    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make: Any = kinds[(handler.request_streaming, handler.response_streaming)]
    return make(streaming if handler.response_streaming else unary, None, handler.response_serializer)


def _decoder(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            text = "the request is not a valid protobuf message of its type"
            raise InvalidArgument(text, reason="MALFORMED_REQUEST") from error

    return decode


async def _decoded(stream: AsyncIterator[bytes], decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for data in stream:
        yield decode(data)


def _call(method: MethodDescriptor, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
    pairs = context.invocation_metadata() or ()
    return Call(method, {key: value for key, value in pairs if isinstance(value, str)}, context)


@asynccontextmanager
async def _guarded(call: Call, authenticator: Authenticator) -> AsyncIterator[None]:
    """The guards, from the outside in: the span sees the status that the caller sees, also that of a refused key."""
    with _traced(call):
        try:
            caller = await authenticator.authenticate(call.metadata)
            authenticator.authorize(caller, call.method)
            with acting_as(caller):
                yield
        except MeshError as error:
            await _abort(call, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            log.exception("rpc failed", rpc=call.method.full_name)
            await _abort(call, Internal("an internal error; the service's log has it under this call's trace id"))
            raise AssertionError("abort returned") from error


@contextmanager
def _traced(call: Call) -> Iterator[None]:
    """A server span, child of the caller's, and the call's duration."""
    name = f"{call.method.containing_service.full_name}/{call.method.name}"
    parent = TraceContext(call.metadata.get("traceparent", ""), call.metadata.get("tracestate", ""))
    began = perf_counter()
    attributes = {"rpc.system.name": "grpc", "rpc.method": name}
    with telemetry.span(name, kind="server", parent=parent, attributes=attributes) as span:
        try:
            yield
        except asyncio.CancelledError:
            call.code = "CANCELLED"
            raise
        finally:
            span.set("rpc.response.status_code", call.code)
            duration = telemetry.histogram("rpc.server.call.duration", "s", "Duration of inbound rpcs.")
            duration.record(perf_counter() - began, {"rpc.method": name, "rpc.response.status_code": call.code})


async def _abort(call: Call, error: MeshError) -> None:
    code = STATUS_CODES[error.code]
    call.code = code.name
    details = to_rpc_status(error).SerializeToString()
    await call.context.abort(code, error.message, trailing_metadata=((DETAILS_KEY, details),))
