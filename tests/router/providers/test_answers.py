"""What all adapters read of answers alike."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from services.router.providers.answers import LONGEST_RETRY_AFTER, retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "1000000000"}, LONGEST_RETRY_AFTER),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Fri, 20 Nov 2015 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 20 Nov 2099 10:00:00 GMT"}, LONGEST_RETRY_AFTER),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
    ],
)
def test_how_long_to_stay_away(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_counts_from_now() -> None:
    told = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert told is not None
    assert 55 < told <= 60
