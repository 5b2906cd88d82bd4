"""The engine's own metrics: what is measured, once, for OpenTelemetry and for Triton's metrics port alike."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mesh import telemetry
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Finished, Pass

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Metric:
    """A counter, or a histogram where there are buckets (upper bounds, in `unit`)."""

    name: str
    unit: str
    text: str
    buckets: tuple[float, ...] = ()


STEPS = Metric("imagemesh.engine.steps", "{step}", "Denoising steps made, counting each picture's.")
REQUESTS = Metric("imagemesh.engine.requests", "{request}", "Ended drawings, by outcome.")
DEVICE = Metric("imagemesh.engine.device.time", "s", "Time on the device, summed over ended drawings.")
ROWS = Metric("imagemesh.engine.batch.rows", "{row}", "Rows of a forward pass.", (1, 2, 4, 8, 16, 32, 64))
SHARING = Metric("imagemesh.engine.batch.requests", "{request}", "Requests in a forward pass.", (1, 2, 4, 8, 16, 32))
PASS = Metric(
    "imagemesh.engine.pass.duration", "s", "Duration of a forward pass.", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
)
QUEUE = Metric(
    "imagemesh.engine.queue.duration", "s", "Time a drawing waited for a slot.", (0.01, 0.05, 0.25, 1, 5, 15, 60, 300)
)
METRICS = (STEPS, REQUESTS, DEVICE, ROWS, SHARING, PASS, QUEUE)

Observe = Callable[[Metric, float, Labels], None]
"""Takes one observation, or an amount to add; must return at once."""


class Meter:
    """Measures one model's engine, for everybody who observes. Its methods may be called from any thread."""

    def __init__(self, model_id: str, observers: Sequence[Observe]) -> None:
        self._labels: Labels = (("model", model_id),)
        self._observers = observers

    def passed(self, made: Pass) -> None:
        """A forward pass was made."""
        self._tell(STEPS, made.pictures)
        self._tell(ROWS, made.rows)
        self._tell(SHARING, made.requests)
        self._tell(PASS, made.seconds)

    def ended(self, last: Finished | EngineError) -> None:
        """A drawing has ended."""
        self._tell(REQUESTS, 1, ("outcome", last.code if isinstance(last, EngineError) else "FINISHED"))
        if isinstance(last, Finished):
            self._tell(DEVICE, last.device_seconds)
        if last.stages:
            self._tell(QUEUE, (last.stages[0].end_ns - last.stages[0].start_ns) / 1e9)

    def _tell(self, metric: Metric, value: float, *labels: tuple[str, str]) -> None:
        for observe in self._observers:
            observe(metric, value, (*self._labels, *labels))


def to_telemetry(metric: Metric, value: float, labels: Labels) -> None:
    """An `Observe` that hands on to the process's telemetry."""
    if metric.buckets:
        telemetry.histogram(metric.name, metric.unit, metric.text, metric.buckets).record(value, dict(labels))
    else:
        telemetry.counter(metric.name, metric.unit, metric.text).add(value, dict(labels))


Series = tuple[str, str, Labels]
"""A counter of Prometheus: name, text, labels."""


class Counts:
    """An `Observe` that adds up Prometheus series, to be taken away now and then: an observation costs next to nothing.

    A histogram is its `_bucket`, `_sum` and `_count` series, as `histogram_quantile` reads them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._added: Counter[Series] = Counter()

    def __call__(self, metric: Metric, value: float, labels: Labels) -> None:
        """See `Observe`."""
        name = prometheus_name(metric)
        with self._lock:
            if not metric.buckets:
                self._add(f"{name}_total", metric, labels, value)
                return
            for bound in metric.buckets:
                self._add(f"{name}_bucket", metric, (*labels, ("le", f"{bound:g}")), value <= bound)
            self._add(f"{name}_bucket", metric, (*labels, ("le", "+Inf")), 1)
            self._add(f"{name}_sum", metric, labels, value)
            self._add(f"{name}_count", metric, labels, 1)

    def take(self) -> Mapping[Series, float]:
        """What was added since the last time; series to which nothing was added come with 0 the first time."""
        with self._lock:
            added, self._added = self._added, Counter()
        return added

    def _add(self, name: str, metric: Metric, labels: Labels, value: float) -> None:
        self._added[(name, metric.text, labels)] += value  # type: ignore[assignment]  # a Counter of floats


def prometheus_name(metric: Metric) -> str:
    """The name without its kind's ending: dots are underlines, seconds are spelt out."""
    return metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
