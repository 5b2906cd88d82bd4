"""The channel's own rules."""

from typing import Any, cast

import grpc.aio
import pytest

from mesh.channel import ChannelConfig, MeshChannel, open_channel


class Call:
    """A call that never ends."""

    def add_done_callback(self, _callback: object) -> None:
        """Never called."""


class Inner:
    """Notes the deadline of each call."""

    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def unary_unary(self, *_: object, **__: object) -> Any:
        def call(_request: object, *, timeout: float | None, metadata: object) -> Call:
            self.timeouts.append(timeout)
            return Call()

        return call


@pytest.mark.parametrize(
    ("default", "given", "deadline"), [(10.0, None, 10.0), (10.0, 3.0, 3.0), (None, None, None), (None, 0.0, 0.0)]
)
async def test_no_time_left_is_no_time_and_not_for_ever(
    default: float | None, given: float | None, deadline: float | None
) -> None:
    inner = Inner()
    channel = MeshChannel(cast(grpc.aio.Channel, inner), ChannelConfig("peer:1", timeout=default))
    channel.unary_unary("/a.B/C")(b"", timeout=given)
    assert inner.timeouts == [deadline]


async def test_calls_are_spread_over_every_address_behind_a_name() -> None:
    """As over the pods of a headless service."""
    asked = [0, 0]
    servers = [grpc.aio.server() for _ in asked]
    for number, server in enumerate(servers):

        async def answer(_request: bytes, _context: object, number: int = number) -> bytes:
            asked[number] += 1
            return b""

        handlers = {"C": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
    ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
    for server in servers:
        await server.start()
    async with open_channel(ChannelConfig("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports))) as channel:
        call = channel.unary_unary("/a.B/C")
        for _ in range(200):  # the first ones come before both connections stand
            await call(b"")
            if min(asked) >= 10:
                break
    for server in servers:
        await server.stop(None)
    assert min(asked) >= 10
