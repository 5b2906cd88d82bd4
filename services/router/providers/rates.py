"""What vendors tell of their rate limits with every answer: what is left, and when it is full again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LEFT_REQUESTS = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining", "ratelimit-remaining")
LEFT_TOKENS = ("x-ratelimit-remaining-tokens",)
RESET_REQUESTS = ("x-ratelimit-reset-requests", "x-ratelimit-reset", "ratelimit-reset")
RESET_TOKENS = ("x-ratelimit-reset-tokens",)
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
LONGEST_RESET = 86_400.0
"""A number above a day is a date, or useless."""


@dataclass(frozen=True)
class RateHint:
    """What is left of an account's limits, as the vendor told with an answer. None: it did not say."""

    requests_left: int | None = None
    """Requests that may follow now."""
    tokens_left: int | None = None
    """Tokens that may follow now."""
    requests_reset: float | None = None
    """Seconds until all requests are free again."""
    tokens_reset: float | None = None
    """Seconds until all tokens are free again."""


def rate_hint(headers: Mapping[str, str]) -> RateHint | None:
    """What `headers` (case-insensitive) tell of the account's limits; None when they tell nothing.

    Resets come as seconds (`17`, `0.5`) or as durations (`6m0s`, `20ms`).
    """
    hint = RateHint(
        requests_left=_whole(headers, LEFT_REQUESTS),
        tokens_left=_whole(headers, LEFT_TOKENS),
        requests_reset=_duration(headers, RESET_REQUESTS),
        tokens_reset=_duration(headers, RESET_TOKENS),
    )
    return hint if hint != RateHint() else None


def _told(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name].strip() for name in names if name in headers), "")


def _whole(headers: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    told = _told(headers, names)
    return int(told) if re.fullmatch(r"\d{1,12}", told) else None


def _duration(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    told = _told(headers, names)
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", told):
        seconds = float(told)
    elif re.fullmatch(r"(\d{1,9}(\.\d{1,9})?(ms|s|m|h|d))+", told):
        seconds = sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)(ms|[smhd])", told))
    else:
        return None
    return seconds if seconds <= LONGEST_RESET else None
