"""Events of a stream, wherever its pieces are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.router.providers.sse import Event, events

TEXT = b': hello\n\nevent: part\ndata: {"a":\ndata:1}\n\nid: 7\r\ndata: two\r\n\r\nevent: lone\n\ndata: cut'
TOLD = [Event("part", b'{"a":\n1}'), Event("", b"two")]


async def pieces(data: bytes, length: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), length):
        yield data[start : start + length]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 1000])
async def test_reads_events_from_any_pieces(length: int) -> None:
    assert [event async for event in events(pieces(TEXT, length))] == TOLD


async def test_a_name_belongs_to_its_own_event() -> None:
    told = [event async for event in events(pieces(b"event: lone\n\ndata: x\n\n", 100))]
    assert told == [Event("", b"x")]
