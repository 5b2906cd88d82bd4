"""Channels to peers: keepalive, a default deadline, trace context and the mesh token on every call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from mesh import telemetry
from mesh.auth import TENANT_HEADER
from mesh.errors import Unavailable

MESSAGE_LIMIT = 8 * 1024 * 1024

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ChannelConfig:
    """How to reach a peer.

    target: `host:port`. mesh_token: sent as authorization when set. timeout: default deadline of a call, seconds;
    None for none (streams that last as long as a job). idempotent: full method names (`/package.Service/Method`) that
    gRPC may repeat when the peer is unavailable.
    """

    target: str
    mesh_token: str = ""
    timeout: float | None = 10.0
    idempotent: tuple[str, ...] = ()


def as_tenant(tenant: str) -> Metadata:
    """Metadata of an internal call made for `tenant`."""
    return ((TENANT_HEADER, tenant),)


def open_channel(config: ChannelConfig) -> grpc.aio.Channel:
    """A channel that connects on first use and reconnects within two seconds of the peer's return."""
    return MeshChannel(grpc.aio.insecure_channel(config.target, options=_options(config)), config)


def _options(config: ChannelConfig) -> list[tuple[str, Any]]:
    names = [dict(zip(("service", "method"), path.strip("/").split("/"), strict=True)) for path in config.idempotent]
    retry = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    service: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}  # over every address behind the name
    if names:
        service["methodConfig"] = [{"name": names, "retryPolicy": retry}]
    return [
        ("grpc.service_config", json.dumps(service)),
        ("grpc.enable_retries", 1 if names else 0),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", -1),  # what is too large is the receiver's to say
    ]


class MeshChannel(grpc.aio.Channel):
    """Wraps a channel so that each call gets a client span, credentials and a deadline.

    A wrapper instead of client interceptors: those cost extra tasks for each call in grpc.aio, and streams lose their
    `cancel` semantics behind them.
    """

    def __init__(self, inner: grpc.aio.Channel, config: ChannelConfig) -> None:
        self._inner = inner
        self._config = config
        self._fixed: Metadata = (("authorization", f"Bearer {config.mesh_token}"),) if config.mesh_token else ()

    def _wrapped(self, method: str, call: Callable[..., Any]) -> Callable[..., Any]:
        name = method.strip("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name, "server.address": self._config.target}

        def invoke(request: Any = None, *, timeout: float | None = None, metadata: Any = None, **rest: Any) -> Any:
            span = telemetry.begin(name, kind="client", attributes=attributes)
            sent = (*self._fixed, *_trace_headers(span), *(metadata or ()))
            arguments = {"timeout": self._config.timeout if timeout is None else timeout, "metadata": sent, **rest}
            running = call(**arguments) if request is None else call(request, **arguments)
            running.add_done_callback(lambda done: _finish(span, done))
            return running

        return invoke

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._wrapped(method, self._inner.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._wrapped(method, self._inner.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._wrapped(method, self._inner.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._wrapped(method, self._inner.stream_stream(method, *args, **kwargs))

    async def __aenter__(self) -> MeshChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes the connection; running calls get `grace` seconds."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel`."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel`."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until the peer is connected."""
        await self._inner.channel_ready()


async def check_connected(channel: grpc.aio.Channel, peer: str) -> None:
    """A health check: raises Unavailable unless the channel is connected or idle."""
    state = channel.get_state(try_to_connect=True)
    if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
        raise Unavailable(f"{peer} is not connected", metadata={"peer": peer})


def _trace_headers(span: telemetry.Span) -> Metadata:
    place = telemetry.context_of(span)
    headers = (("traceparent", place.traceparent), ("tracestate", place.tracestate))
    return tuple((key, value) for key, value in headers if value)


def _finish(span: telemetry.Span, call: Any) -> None:
    code = _final_code(call)
    span.set("rpc.response.status_code", code.name)
    if code is not grpc.StatusCode.OK:
        span.fail_as(code.name)
    span.end()


def _final_code(call: Any) -> grpc.StatusCode:
    """The status of a finished call. Its coroutine has nothing to wait for any more, so one step gives the value."""
    pending = call.code()
    try:
        pending.send(None)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    pending.close()
    return grpc.StatusCode.UNKNOWN
