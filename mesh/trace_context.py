"""A place in a trace as plain text, to be stored and sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TraceContext:
    """A place in a trace, in W3C form; empty strings when there is none."""

    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 hex characters, or an empty string."""
        return self.traceparent.split("-")[1] if self.traceparent else ""
