"""The engine's own metrics: what is counted, and how it stands at Triton's metrics port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from services.inference.engine.errors import Canceled
from services.inference.engine.facts import Finished, Pass, Stage
from services.inference.metering import METRICS, Counts, Meter, prometheus_name
from services.inference.triton_shim.exporting import Exporter
from tests.inference.fake_family import FakeFamily, Listener, drawing

TINY = (("model", "tiny"),)
QUEUED = (Stage("queue", 0, 2_000_000_000, {}), Stage("encode", 2_000_000_000, 3_000_000_000, {}))


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def meter(counts: Counts) -> Meter:
    return Meter("tiny", (counts,))


def series(counts: Counts) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(name, labels): value for (name, _, labels), value in counts.take().items()}


def test_passes_are_steps_and_distributions(counts: Counts, meter: Meter) -> None:
    meter.passed(Pass(requests=2, pictures=3, rows=6, seconds=0.02))
    meter.passed(Pass(requests=1, pictures=1, rows=2, seconds=2.0))
    told = series(counts)
    assert told["imagemesh_engine_steps_total", TINY] == 4
    name = "imagemesh_engine_batch_rows_bucket"
    buckets = {labels[-1][1]: value for (each, labels), value in told.items() if each == name}
    assert buckets == {"1": 0, "2": 1, "4": 1, "8": 2, "16": 2, "32": 2, "64": 2, "+Inf": 2}
    assert told["imagemesh_engine_batch_rows_sum", TINY] == 8
    assert told["imagemesh_engine_pass_duration_seconds_count", TINY] == 2
    assert told["imagemesh_engine_pass_duration_seconds_bucket", (*TINY, ("le", "1"))] == 1


def test_ends_tell_outcome_wait_and_device(counts: Counts, meter: Meter) -> None:
    meter.ended(Finished(4, 0.5, QUEUED))
    error = Canceled("left")
    error.stages = QUEUED[:1]
    meter.ended(error)
    meter.ended(Canceled("before anything"))
    told = series(counts)
    assert told["imagemesh_engine_requests_total", (*TINY, ("outcome", "FINISHED"))] == 1
    assert told["imagemesh_engine_requests_total", (*TINY, ("outcome", "CANCELED"))] == 2
    assert told["imagemesh_engine_device_time_seconds_total", TINY] == 0.5
    assert told["imagemesh_engine_queue_duration_seconds_sum", TINY] == 4
    assert series(counts) == {}


def test_names_are_told_apart() -> None:
    assert len({prometheus_name(metric) for metric in METRICS}) == len(METRICS)


def test_the_engine_tells_every_pass() -> None:
    from services.inference.engine.admission import Limits
    from services.inference.engine.engine import StepEngine

    passes: list[Pass] = []
    engine = StepEngine(FakeFamily(), Limits(), observe=passes.append)
    engine.start()
    Listener(engine, drawing("a", steps=3, count=2)).end()
    engine.stop()
    assert [(made.requests, made.pictures, made.rows) for made in passes] == [(1, 2, 2)] * 3
    assert all(made.seconds >= 0 for made in passes)


class FakeTriton:
    """Stands in for `pb_utils.MetricFamily`, which only Triton has."""

    COUNTER = "counter"
    made: ClassVar[list[str]] = []
    values: ClassVar[dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}

    def __init__(self, name: str, description: str, kind: str) -> None:
        assert kind == self.COUNTER
        assert description
        self.made.append(name)
        self._name = name

    def Metric(self, labels: dict[str, str]) -> Any:
        key = (self._name, tuple(labels.items()))

        class Series:
            def increment(self, value: float) -> None:
                FakeTriton.values[key] = FakeTriton.values.get(key, 0.0) + value

        return Series()


def test_what_was_counted_is_brought_to_triton_at_the_latest_at_the_end(counts: Counts, meter: Meter) -> None:
    class PbUtils:
        MetricFamily = FakeTriton

    exporter = Exporter(PbUtils, counts)
    meter.passed(Pass(1, 1, 2, 0.1))
    meter.passed(Pass(1, 1, 2, 0.1))
    exporter.close()
    assert FakeTriton.values["imagemesh_engine_steps_total", TINY] == 2
    assert len(FakeTriton.made) == len(set(FakeTriton.made))
