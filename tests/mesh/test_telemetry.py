"""The trace context that is stored and handed on."""

from __future__ import annotations

import pytest

from mesh import telemetry
from mesh.telemetry import TelemetryConfig, TraceContext

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.mark.parametrize(("members", "kept"), [(1, True), (4, True), (20, False)])
def test_a_trace_state_longer_than_512_characters_is_dropped(members: int, kept: bool) -> None:
    state = ",".join(f"k{number}={'x' * 100}" for number in range(members))
    telemetry.start(TelemetryConfig("tests"))
    with telemetry.span("step", parent=TraceContext(PARENT, state)):
        assert telemetry.current().tracestate == (state if kept else "")
        assert telemetry.current().trace_id == "a" * 32
