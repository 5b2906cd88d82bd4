"""Span files: where traces go on a machine without a collector.

One JSON object a line: `event` (`start` or `end`), `trace_id`, `span_id`, `parent_id`, `name`, `service`, `kind`,
`start_ns`; an `end` line also has `end_ns`, `status`, `attributes` and `links`. A span with a `start` line only belongs
to a process that was killed.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 0.1
BUFFER_LINES = 50_000
FILE_LIMIT_BYTES = 32 * 1024 * 1024


class SpanFile:
    """Appends records from any thread; a thread of its own writes them every 0.1 s.

    The buffer is bounded (the oldest records are dropped), and so is the file: at 32 MiB it becomes `<name>.1`, in
    place of the one before.
    """

    def __init__(self, directory: Path, service: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / f"{service}-{os.getpid()}.jsonl"
        self._buffer: deque[dict[str, Any]] = deque(maxlen=BUFFER_LINES)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="span-file", daemon=True)
        self._thread.start()

    def write(self, record: dict[str, Any]) -> None:
        """Queues one record; never blocks."""
        self._buffer.append(record)

    def flush(self) -> None:
        """Writes every queued record."""
        with self._lock:
            lines = []
            while self._buffer:
                lines.append(json.dumps(self._buffer.popleft(), separators=(",", ":")))
            if lines:
                with suppress(OSError):  # a full disk costs spans, and nothing else
                    self._append("\n".join(lines) + "\n")

    def close(self) -> None:
        """Writes what is queued and ends the thread; may be called twice."""
        self._closing.set()
        self._thread.join(timeout=5)
        self.flush()

    def _run(self) -> None:
        while not self._closing.wait(FLUSH_SECONDS):
            self.flush()

    def _append(self, text: str) -> None:
        if self._path.exists() and self._path.stat().st_size > FILE_LIMIT_BYTES:
            self._path.replace(self._path.with_suffix(".jsonl.1"))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)
