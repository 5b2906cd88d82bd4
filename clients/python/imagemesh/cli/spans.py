"""Reads span files (the format is told in mesh/span_files.py) and puts one trace in order. Pure but for the reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JOB_KEY = "imagemesh.job_id"


@dataclass(frozen=True)
class Span:
    """One span. end_ns is None when its process was killed before it ended."""

    span_id: str
    parent_id: str
    name: str
    service: str
    kind: str
    start_ns: int
    end_ns: int | None = None
    failed: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A span in the waterfall. orphan: its parent is not in the files."""

    span: Span
    depth: int
    orphan: bool = False


def read_trace(folder: Path, trace_id: str) -> list[Span]:
    """Every span of the trace, whichever process wrote it."""
    spans: dict[str, Span] = {}
    for record in _records(folder, trace_id):
        if record.get("trace_id") == trace_id and (record["event"] == "end" or record["span_id"] not in spans):
            spans[record["span_id"]] = _span(record)
    return sorted(spans.values(), key=lambda span: span.start_ns)


def find_trace(folder: Path, job_id: str) -> str:
    """The trace of a job whose id a span carries; empty when none does."""
    for record in _records(folder, job_id):
        if record.get("attributes", {}).get(JOB_KEY) == job_id:
            return str(record["trace_id"])
    return ""


def arrange(spans: Sequence[Span]) -> list[Row]:
    """Parents before children, siblings by their start; spans whose parent is missing stand at the left as orphans."""
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    rows: list[Row] = []
    waiting = [Row(span, 0, bool(span.parent_id)) for span in reversed(children.get("", []))]
    while waiting:
        row = waiting.pop()
        rows.append(row)
        below = children.pop(row.span.span_id, [])
        waiting += [Row(child, row.depth + 1) for child in reversed(below)]
    return rows


def bounds(spans: Iterable[Span]) -> tuple[int, int]:
    """First start and last moment known, in nanoseconds."""
    seen = [moment for span in spans for moment in (span.start_ns, span.end_ns or span.start_ns)]
    return min(seen), max(seen)


def _records(folder: Path, wanted: str) -> Iterator[dict[str, Any]]:
    """Only lines that hold the text are parsed; half-written lines of killed processes are passed over."""
    for path in sorted(folder.glob("*.jsonl*")):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if wanted in line and (record := _parse(line)):
                    yield record


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and {"event", "trace_id", "span_id", "name", "start_ns"} <= record.keys()
    return record if whole else None


def _span(record: Mapping[str, Any]) -> Span:
    return Span(
        span_id=record["span_id"],
        parent_id=record.get("parent_id", ""),
        name=record["name"],
        service=record.get("service", ""),
        kind=record.get("kind", ""),
        start_ns=record["start_ns"],
        end_ns=record.get("end_ns"),
        failed=record.get("status") == "error",
        attributes=record.get("attributes", {}),
    )
