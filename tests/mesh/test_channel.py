"""The channel's own rules, without a network."""

from typing import Any, cast

import grpc.aio
import pytest

from mesh.channel import ChannelConfig, MeshChannel


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
