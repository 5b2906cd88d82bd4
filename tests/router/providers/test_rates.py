"""What the headers of an answer tell of an account's limits."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from services.router.providers.rates import RateHint, rate_hint


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, None),
        ({"Content-Type": "text/plain"}, None),
        ({"X-RateLimit-Remaining-Requests": "3", "X-RateLimit-Reset-Requests": "1m30s"}, RateHint(3, None, 90.0)),
        (
            {"x-ratelimit-remaining-tokens": "150", "x-ratelimit-reset-tokens": "20ms"},
            RateHint(tokens_left=150, tokens_reset=0.02),
        ),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "17"}, RateHint(0, requests_reset=17.0)),
        ({"x-ratelimit-remaining": "many", "x-ratelimit-reset": "soon"}, None),
        ({"x-ratelimit-remaining": "4", "x-ratelimit-reset": "1795000000"}, RateHint(4)),
        ({"x-ratelimit-remaining-requests": "-1"}, None),
    ],
)
def test_rate_hints(headers: dict[str, str], told: RateHint | None) -> None:
    assert rate_hint(CIMultiDict(headers)) == told
