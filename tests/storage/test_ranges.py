"""Ranges agree with slices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.ranges import Unsatisfiable, matches, part_of

SIZES = st.integers(1, 10_000)
POSITIONS = st.integers(0, 20_000)


@given(SIZES, POSITIONS, POSITIONS)
def test_first_to_last(size: int, first: int, last: int) -> None:
    data = range(size)
    if last < first:
        assert part_of(f"bytes={first}-{last}", size) is None
    elif first >= size:
        with pytest.raises(Unsatisfiable):
            part_of(f"bytes={first}-{last}", size)
    else:
        part = part_of(f"bytes={first}-{last}", size)
        assert part is not None
        assert data[part.first : part.last + 1] == data[first : last + 1]
        assert part.length == len(data[first : last + 1])


@given(SIZES, st.integers(1, 20_000))
def test_the_last_bytes(size: int, count: int) -> None:
    part = part_of(f"bytes=-{count}", size)
    assert part is not None
    assert range(size)[part.first : part.last + 1] == range(size)[-count:]


@given(SIZES, st.text(max_size=30))
def test_no_header_breaks_the_reader(size: int, header: str) -> None:
    try:
        part = part_of(header, size)
    except Unsatisfiable:
        return
    assert part is None or 0 <= part.first <= part.last < size


@pytest.mark.parametrize(
    ("header", "same"),
    [(None, False), ("", False), ('"t"', True), ('W/"t"', True), ('"a","t"', True), ("t", False), ("*", True)],
)
def test_entity_tags(header: str | None, same: bool) -> None:
    assert matches(header, '"t"') is same
