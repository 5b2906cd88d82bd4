"""Server-sent events (WHATWG HTML, section 9.2), as far as vendors use them: `event`, `data`, comments, blank lines."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One event."""

    name: str
    """Empty where the vendor names none."""
    data: bytes


async def events(parts: AsyncIterator[bytes]) -> AsyncGenerator[Event]:
    """The events of a stream whose pieces are cut anywhere. Lines end with LF or CR LF.

    An event that the stream breaks off before its blank line is no event. What `parts` raises passes through; how much
    is read is bounded there.
    """
    name, data = "", list[bytes]()
    async for line in _lines(parts):
        if line:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode("utf-8", "replace")
        else:
            if data:
                yield Event(name, b"\n".join(data))
            name, data = "", []


async def _lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines without their ends; each byte is searched once, however long a line is."""
    begun = list[bytes]()
    async for part in parts:
        *ended, rest = part.split(b"\n")
        for line in ended:
            begun.append(line)
            yield b"".join(begun).removesuffix(b"\r")
            begun = []
        if rest:
            begun.append(rest)
