"""trace: the waterfall of one job, over every process that took part."""

from __future__ import annotations

import re

import click
from rich.table import Table
from rich.text import Text

from imagemesh.cli.failures import Failure
from imagemesh.cli.output import console, json_option, print_document, show
from imagemesh.cli.session import Session
from imagemesh.cli.spans import Row, Span, arrange, bounds, find_trace, read_trace
from imagemesh.errors import ImagemeshError, NotFoundError

TRACE_ID = re.compile(r"[0-9a-f]{32}")
COLORS = ("cyan", "green", "magenta", "yellow", "blue", "bright_red", "bright_cyan", "bright_green", "bright_magenta")
NARROWEST_BAR, WIDEST_BAR, TEXT_WIDTH = 20, 60, 78


@click.command()
@click.argument("job", metavar="JOB")
@json_option
@click.pass_obj
def trace(session: Session, job: str, as_json: bool) -> None:
    """Draw the trace of JOB (a job id or a trace id) as a waterfall."""
    trace_id = job if TRACE_ID.fullmatch(job) else _trace_of(session, job)
    spans = read_trace(session.telemetry, trace_id)
    if not spans:
        raise Failure(f"no span of trace {trace_id} in {session.telemetry}; with a collector, look for it there")
    rows = arrange(spans)
    if as_json:
        print_document({"traceId": trace_id, "spans": [_document(row) for row in rows]})
    else:
        draw(trace_id, rows)


def _trace_of(session: Session, job_id: str) -> str:
    """Asks the mesh; where none is up, the span files themselves."""
    try:
        if session.mesh_there():
            with session.client() as client:
                return client.get(job_id).trace_id
    except NotFoundError as error:
        raise Failure(f"{error.message}: `imagemesh jobs` lists yours") from error
    except ImagemeshError:
        pass
    found = find_trace(session.telemetry, job_id)
    if not found:
        raise Failure(f"no mesh is up to ask for {job_id}, and no span in {session.telemetry} names it")
    return found


def draw(trace_id: str, rows: list[Row]) -> None:
    """Name, service, time, and where in the whole it lies."""
    spans = [row.span for row in rows]
    start, end = bounds(spans)
    services = sorted({span.service for span in spans})
    colors = {service: COLORS[index % len(COLORS)] for index, service in enumerate(services)}
    width = max(NARROWEST_BAR, min(WIDEST_BAR, console().width - TEXT_WIDTH))
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for title in ("span", "service"):
        grid.add_column(title, no_wrap=True)
    grid.add_column("ms", justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True, width=width)
    for row in rows:
        grid.add_row(*_cells(row, colors[row.span.service], start, max(1, end - start), width))
    show(f"trace [bold]{trace_id}[/]: {len(spans)} spans of {len(services)} services, {_ms(end - start)} ms")
    show(grid)
    if lost := sum(row.orphan for row in rows):
        show(f"⤷ {lost} spans have a parent that is in no file: its process was killed, or it is not of this mesh")
    if open_ended := sum(span.end_ns is None for span in spans):
        show(f"… {open_ended} spans never ended: they run still, or their process was killed")


def _cells(row: Row, color: str, start: int, length: int, width: int) -> tuple[Text, ...]:
    span = row.span
    mark = "⤷ " if row.orphan else ""
    name = Text(f"{'  ' * row.depth}{mark}{span.name}", style="red" if span.failed else "")
    if error := span.attributes.get("error.type"):
        name.append(f" {error}", style="red")
    took = "…" if span.end_ns is None else _ms(span.end_ns - span.start_ns)
    bar = Text(_bar(span, start, length, width), style="red" if span.failed else color)
    return name, Text(span.service, style=color), Text(took), bar


def _bar(span: Span, start: int, length: int, width: int) -> str:
    """At least one cell; a span that never ended runs on to the right edge in dots."""
    first = min(width - 1, (span.start_ns - start) * width // length)
    if span.end_ns is None:
        return " " * first + "█" + "·" * (width - first - 1)
    last = max(first + 1, min(width, -(-(span.end_ns - start) * width // length)))
    return " " * first + "█" * (last - first)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f}"


def _document(row: Row) -> dict[str, object]:
    span = row.span
    return {
        "spanId": span.span_id,
        "parentId": span.parent_id,
        "name": span.name,
        "service": span.service,
        "startNs": span.start_ns,
        "endNs": span.end_ns,
        "failed": span.failed,
        "orphan": row.orphan,
        "depth": row.depth,
        "attributes": dict(span.attributes),
    }
