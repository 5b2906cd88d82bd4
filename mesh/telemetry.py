"""Traces, metrics and logs. The only module that imports OpenTelemetry; everyone else speaks in these few names.

Without a collector, spans go to files (see `mesh.span_files`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import structlog
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mesh.errors import MeshError
from mesh.logs import configure_logs
from mesh.logs import logger as logger
from mesh.span_files import SpanFile
from mesh.trace_context import TraceContext as TraceContext

Value = str | bool | int | float
PROPAGATOR = TraceContextTextMapPropagator()
SCOPE = "imagemesh"


@dataclass(frozen=True)
class TelemetryConfig:
    """What a process tells of itself.

    service: `service.name` of spans and metrics. directory: folder for span files, used when `otlp_endpoint` is empty;
    None writes no spans. ratio: share of new traces sampled, 0 to 1; a trace begun elsewhere keeps its decision.
    """

    service: str
    directory: Path | None = None
    otlp_endpoint: str = ""
    ratio: float = 1.0
    log_level: str = "info"


class Span:
    """A running span."""

    def __init__(self, inner: trace.Span) -> None:
        self._inner = inner

    def set(self, key: str, value: Value) -> None:
        """Adds an attribute."""
        self._inner.set_attribute(key, value)

    def fail(self, error: BaseException) -> None:
        """Marks the span as failed. The text of unknown exceptions is left out: it may hold a prompt."""
        self.fail_as(error.reason if isinstance(error, MeshError) else type(error).__name__)

    def fail_as(self, kind: str) -> None:
        """Marks the span as failed with an error type, such as a status code's name."""
        self._inner.set_attribute("error.type", kind)
        self._inner.set_status(trace.StatusCode.ERROR, kind)

    def end(self) -> None:
        """Ends a span begun with `begin`."""
        self._inner.end()


class Telemetry:
    """The process's exporters. `close` flushes; it may be called twice."""

    def __init__(self, provider: TracerProvider | None, meters: MeterProvider | None) -> None:
        self._provider = provider
        self._meters = meters

    def close(self) -> None:
        """Writes out what is buffered and stops."""
        for exporter in (self._provider, self._meters):
            if exporter is not None:
                exporter.shutdown()
        self._provider = self._meters = None

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(config: TelemetryConfig) -> Telemetry:
    """Sets up logs, traces and metrics for this process. A second call in one process only sets up logs again."""
    configure_logs(config.service, config.log_level, _trace_ids)
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return Telemetry(None, None)
    resource = Resource.create({"service.name": config.service})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(config.ratio)))
    processor = _processor(config)
    if processor is not None:
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    meters = _meters(config, resource)
    if meters is not None:
        metrics.set_meter_provider(meters)
    return Telemetry(provider, meters)


def _processor(config: TelemetryConfig) -> SpanProcessor | None:
    if config.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return BatchSpanProcessor(OTLPSpanExporter(endpoint=config.otlp_endpoint, insecure=True))
    if config.directory is not None:
        return FileSpanProcessor(config.service, config.directory)
    return None


def _meters(config: TelemetryConfig, resource: Resource) -> MeterProvider | None:
    if not config.otlp_endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = OTLPMetricExporter(endpoint=config.otlp_endpoint, insecure=True)
    return MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(exporter)])


class FileSpanProcessor(SpanProcessor):
    """Hands spans to a `SpanFile` when they start and when they end."""

    def __init__(self, service: str, directory: Path) -> None:
        self._service = service
        self._file = SpanFile(directory, service)

    def on_start(self, span: ReadableSpan, parent_context: otel_context.Context | None = None) -> None:
        """Writes the span's identity, so that it is known even if the process is killed."""
        if _sampled(span):
            self._file.write({"event": "start", **self._identity(span)})

    def on_end(self, span: ReadableSpan) -> None:
        """Writes the whole span."""
        if _sampled(span):
            self._file.write({"event": "end", **self._identity(span), **_outcome(span)})

    def shutdown(self) -> None:
        """Writes what is buffered and closes the file."""
        self._file.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Writes what is buffered."""
        self._file.flush()
        return True

    def _identity(self, span: ReadableSpan) -> dict[str, Any]:
        context = cast(trace.SpanContext, span.get_span_context())
        return {
            "trace_id": f"{context.trace_id:032x}",
            "span_id": f"{context.span_id:016x}",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
            "name": span.name,
            "service": self._service,
            "kind": span.kind.name.lower(),
            "start_ns": span.start_time,
        }


def _sampled(span: ReadableSpan) -> bool:
    context = span.get_span_context()
    return context is not None and context.trace_flags.sampled


def _outcome(span: ReadableSpan) -> dict[str, Any]:
    return {
        "end_ns": span.end_time,
        "status": span.status.status_code.name.lower(),
        "attributes": dict(span.attributes or {}),
        "links": [f"{link.context.trace_id:032x}-{link.context.span_id:016x}" for link in span.links],
    }


@contextmanager
def span(
    name: str,
    *,
    kind: str = "internal",
    attributes: Mapping[str, Value] | None = None,
    parent: TraceContext | None = None,
    links: Sequence[TraceContext] = (),
) -> Iterator[Span]:
    """A span around the block.

    kind: internal, server, client, producer or consumer. `parent` None means the current span; an empty TraceContext
    begins a new trace.
    """
    inner = _begin(name, kind, attributes, parent, links)
    running = Span(inner)
    if parent is None and not inner.is_recording():  # the current span stays
        yield running
        return
    with trace.use_span(inner, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield running
        except (Exception, asyncio.CancelledError) as error:
            running.fail(error)
            raise


def begin(name: str, *, kind: str = "internal", attributes: Mapping[str, Value] | None = None) -> Span:
    """A span that is a child of the current one and is ended by hand, for work that ends in a callback."""
    return Span(_begin(name, kind, attributes, None, ()))


@lru_cache(maxsize=1)
def _tracer() -> trace.Tracer:
    """A proxy until `start` set a provider; it then forwards to the real one."""
    return trace.get_tracer(SCOPE)


def _begin(
    name: str,
    kind: str,
    attributes: Mapping[str, Value] | None,
    parent: TraceContext | None,
    links: Sequence[TraceContext],
) -> trace.Span:
    context = None if parent is None else _extract(parent)
    around = trace.get_current_span(context).get_span_context()
    if around.is_valid and not around.trace_flags.sampled:  # what nobody records is only handed on
        return trace.NonRecordingSpan(around)
    return _tracer().start_span(
        name,
        context=context,
        kind=trace.SpanKind[kind.upper()],
        attributes=attributes,
        links=[trace.Link(trace.get_current_span(_extract(link)).get_span_context()) for link in links],
    )


def record_span(
    name: str, *, start_ns: int, end_ns: int, parent: TraceContext, attributes: Mapping[str, Value], error: str = ""
) -> TraceContext:
    """A span for something already over, such as a stage timed in another thread; times are Unix nanoseconds.

    `error` is the error type when it failed. Returns the span's place, for children.
    """
    inner = _tracer().start_span(name, context=_extract(parent), attributes=attributes, start_time=start_ns)
    finished = Span(inner)
    if error:
        finished.fail_as(error)
    inner.end(end_time=end_ns)
    return context_of(finished)


def current() -> TraceContext:
    """The current place in the trace, to hand to another process or to store with a job."""
    return context_of(None)


def context_of(running: Span | None) -> TraceContext:
    """The place of `running` in its trace; None for the current span."""
    place = (trace.get_current_span() if running is None else running._inner).get_span_context()
    if not place.is_valid:
        return TraceContext()
    state = place.trace_state.to_header()
    parent = f"00-{place.trace_id:032x}-{place.span_id:016x}-{place.trace_flags:02x}"
    return TraceContext(parent, state if len(state) <= 512 else "")  # what W3C asks to carry


def _extract(place: TraceContext) -> otel_context.Context:
    return PROPAGATOR.extract(vars(place), context=otel_context.Context())


@lru_cache(maxsize=256)
def counter(name: str, unit: str, text: str) -> metrics.Counter:
    """A sum that only grows: `.add(1, {"reason": …})`."""
    return metrics.get_meter(SCOPE).create_counter(name, unit, text)


@lru_cache(maxsize=256)
def histogram(name: str, unit: str, text: str, buckets: tuple[float, ...] = ()) -> metrics.Histogram:
    """A distribution: `.record(0.2, {"method": …})`. `buckets`: upper bounds, where the usual ones do not suit."""
    advised = list(buckets) or None
    return metrics.get_meter(SCOPE).create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=advised)


def _trace_ids(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event
