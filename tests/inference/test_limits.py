"""What an engine takes on: its configuration, the manifest's word, the device's memory."""

from __future__ import annotations

from typing import Any

import pytest

from services.inference.engine.admission import MIB, Limits
from services.inference.engine.facts import Memory
from services.inference.engine.limits import limits_of
from services.inference.engine.manifest import Manifest
from tests.inference.fake_family import FakeFamily, drawing
from tests.inference.test_manifest import GOOD

MEMORY = Memory("cpu", total=1000 * MIB, used=400 * MIB)


def limits(**manifest: Any) -> Limits:
    return limits_of(Manifest.model_validate({**GOOD, **manifest}), FakeFamily(), Limits(slots=3, waiting=9), MEMORY)


def test_the_configuration_counts_where_the_manifest_is_silent() -> None:
    assert limits(max_batch=5) == Limits(slots=3, waiting=9, rows=10)


def test_the_manifests_own_figures_come_first() -> None:
    own = limits(slots=2, max_waiting=4)
    assert (own.slots, own.waiting) == (2, 4)


def test_memory_is_what_was_free_after_loading_but_for_a_tenth() -> None:
    assert limits(row_memory_mb=100).memory == 540 * MIB


@pytest.mark.parametrize(
    ("changes", "mib"),
    [({}, 100), ({"count": 2}, 200), ({"guidance": 5.0}, 200), ({"width": 64, "height": 128}, 400)],
)
def test_a_request_takes_its_rows_and_their_size(changes: dict[str, Any], mib: int) -> None:
    default = {"width": 32, "height": 64}
    assert limits(row_memory_mb=100).memory_of(drawing("a", **{**default, **changes})) == mib * MIB
