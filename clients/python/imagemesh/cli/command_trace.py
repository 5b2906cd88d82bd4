"""The command's own span: the root of the job's trace.

Written in the format of the mesh's span files (one JSON object a line when a span starts and when it ends), so that the
client needs no tracing library.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from imagemesh.calls import Metadata

Value = str | bool | int | float


class CommandSpan:
    """Starts at once. Without a directory nothing is written, and the trace still begins here."""

    def __init__(self, name: str, directory: Path | None) -> None:
        self._name = name
        self._trace_id = os.urandom(16).hex()
        self._span_id = os.urandom(8).hex()
        self._start = time.time_ns()
        self._file = directory / f"command-{os.getpid()}.jsonl" if directory and directory.is_dir() else None
        self._write({"event": "start", **self._identity()})

    @property
    def metadata(self) -> Metadata:
        """What carries the trace to the mesh."""
        return (("traceparent", f"00-{self._trace_id}-{self._span_id}-01"),)

    def end(self, failure: str, attributes: Mapping[str, Value]) -> None:
        """failure: the error type; empty for success."""
        attributes = {**attributes, **({"error.type": failure} if failure else {})}
        outcome: dict[str, object] = {
            "end_ns": time.time_ns(),
            "status": "error" if failure else "ok",
            "attributes": attributes,
            "links": [],
        }
        self._write({"event": "end", **self._identity(), **outcome})

    def _identity(self) -> dict[str, object]:
        return {
            "trace_id": self._trace_id,
            "span_id": self._span_id,
            "parent_id": "",
            "name": self._name,
            "service": "command",
            "kind": "client",
            "start_ns": self._start,
        }

    def _write(self, record: dict[str, object]) -> None:
        if self._file is None:
            return
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
        except OSError:
            self._file = None
