"""What the launcher reports while it works. One event is one line: JSON for the command, plain text for a person."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal, TextIO

Kind = Literal["notice", "starting", "ready", "ended", "up", "failed", "stopping", "stopped"]


@dataclass(frozen=True)
class Event:
    """kind: what happened. process: whom it is about, empty for the mesh. text: one line for a person. time: in Unix
    seconds."""

    kind: Kind
    process: str = ""
    text: str = ""
    details: dict[str, object] = field(default_factory=dict)
    time: float = field(default_factory=time.time, compare=False)

    def line(self, as_json: bool) -> str:
        """Without the line's end."""
        if as_json:
            return json.dumps(asdict(self))
        return f"{self.process or 'mesh'}: {self.text or self.kind}"


Report = Callable[[Event], None]


def reporter(streams: list[tuple[TextIO, bool]]) -> Report:
    """Writes each event to every stream, as JSON where its flag says so; a reader that went away is no error."""

    def report(event: Event) -> None:
        for stream, as_json in streams:
            try:
                stream.write(event.line(as_json) + "\n")
                stream.flush()
            except BrokenPipeError:
                _silence(stream)

    return report


def _silence(stream: TextIO) -> None:
    """Points the stream at nothing, so that what it still buffers harms nobody when it is closed."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
