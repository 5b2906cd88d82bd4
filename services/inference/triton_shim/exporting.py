"""The engine's own metrics at Triton's metrics port, beside its `nv_*`."""

from __future__ import annotations

import threading
from typing import Any

from services.inference.metering import Counts, Series

INTERVAL_SECONDS = 1.0


class Exporter:
    """Brings counts to Triton once a second: each call into Triton crosses processes, too dear for every step."""

    def __init__(self, pb_utils: Any, counts: Counts) -> None:
        """`pb_utils`: `triton_python_backend_utils`, which only Triton can import."""
        self._kind = pb_utils.MetricFamily
        self._counts = counts
        self._families: dict[str, Any] = {}
        self._metrics: dict[Series, Any] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Brings the last counts and lets go of the series; Triton wants metrics deleted before their families."""
        self._closing.set()
        self._thread.join()
        self._flush()
        self._metrics.clear()
        self._families.clear()

    def _run(self) -> None:
        while not self._closing.wait(INTERVAL_SECONDS):
            self._flush()

    def _flush(self) -> None:
        for series, value in self._counts.take().items():
            self._metric(series).increment(float(value))

    def _metric(self, series: Series) -> Any:
        if series not in self._metrics:
            name, text, labels = series
            if name not in self._families:
                self._families[name] = self._kind(name=name, description=text, kind=self._kind.COUNTER)
            self._metrics[series] = self._families[name].Metric(labels=dict(labels))
        return self._metrics[series]
