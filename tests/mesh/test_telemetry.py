"""The trace context that is stored and handed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh import telemetry
from mesh.span_files import SpanFile
from mesh.telemetry import TelemetryConfig, TraceContext

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.mark.parametrize(("members", "kept"), [(1, True), (4, True), (20, False)])
def test_a_trace_state_longer_than_512_characters_is_dropped(members: int, kept: bool) -> None:
    state = ",".join(f"k{number}={'x' * 100}" for number in range(members))
    telemetry.start(TelemetryConfig("tests"))
    with telemetry.span("step", parent=TraceContext(PARENT, state)):
        assert telemetry.current().tracestate == (state if kept else "")
        assert telemetry.current().trace_id == "a" * 32


def test_what_is_not_sampled_is_handed_on_unchanged() -> None:
    telemetry.start(TelemetryConfig("tests"))
    place = TraceContext("00-" + "a" * 32 + "-" + "b" * 16 + "-00", "vendor=x")
    with telemetry.span("outer", parent=place), telemetry.span("inner") as inner:
        assert telemetry.current() == telemetry.context_of(inner) == place
    assert telemetry.current() == TraceContext()


def test_a_span_below_a_sampled_one_has_a_place_of_its_own() -> None:
    telemetry.start(TelemetryConfig("tests"))
    with telemetry.span("outer", parent=TraceContext(PARENT)):
        outside = telemetry.current()
        with telemetry.span("inner"):
            assert telemetry.current().trace_id == outside.trace_id
            assert telemetry.current() != outside


def test_a_disk_that_takes_nothing_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "telemetry"
    file = SpanFile(folder, "service")
    folder.rmdir()
    file.write({"span_id": "lost"})
    file.flush()
    folder.mkdir()
    file.write({"span_id": "kept"})
    file.close()
    (written,) = folder.iterdir()
    assert written.read_text() == '{"span_id":"kept"}\n'
