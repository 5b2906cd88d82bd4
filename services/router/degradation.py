"""Providers that get worse without failing outright: what they do lately against what they did before. Pure.

Four signs, each over a bounded window of a provider's model:

    ERRORS    half of the last twenty calls failed, though never many in a row
    LATENCY   the median of the last ten calls is several times that of the ones before
    BLANK     most of the last pictures are of one colour, for different requests
    CONSTANT  different requests get one and the same picture
"""

from __future__ import annotations

import enum
import statistics
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field


class Sign(enum.StrEnum):
    """How a provider got worse."""

    ERRORS = "ERRORS"
    LATENCY = "LATENCY"
    BLANK = "BLANK"
    CONSTANT = "CONSTANT"


@dataclass(frozen=True)
class DegradationConfig:
    """From when on a sign counts."""

    calls: int = 20
    """Calls that the error rate is taken over."""
    error_share: float = 0.5
    recent: int = 10
    """Calls whose median time is compared."""
    before: int = 40
    """Successful calls that must lie before them, at least; ten times as many are remembered."""
    slower: float = 4.0
    """How many times as long as before."""
    noticeable_s: float = 5.0
    """Below this median nobody minds."""
    pictures: int = 10
    """Pictures that BLANK and CONSTANT look at."""
    blank_share: float = 0.6
    requests: int = 3
    """Different requests that must have got the same picture, or a blank one."""
    rest_s: float = 60.0
    """Seconds that the breaker is opened for."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture as it is looked at here. `request` stands for what was asked: prompt and seed."""

    request: Hashable
    digest: bytes
    blank: bool


@dataclass
class _Lately:
    healthy: deque[bool]
    seconds: deque[float]
    pictures: deque[Drawn] = field(default_factory=deque)


class Degradation:
    """What is remembered of one provider's model. Every finding clears the memory, so that it is told once."""

    def __init__(self, config: DegradationConfig | None = None) -> None:
        self._config = config or DegradationConfig()
        self._lately = self._nothing()

    def _nothing(self) -> _Lately:
        config = self._config
        return _Lately(deque(maxlen=config.calls), deque(maxlen=10 * config.before), deque(maxlen=config.pictures))

    def failed(self) -> Sign | None:
        """A call failed through the provider's fault."""
        self._lately.healthy.append(False)
        return self._found(self._errors)

    def answered(self, seconds: float) -> Sign | None:
        """A call succeeded within so many seconds."""
        self._lately.healthy.append(True)
        self._lately.seconds.append(seconds)
        return self._found(self._errors, self._latency)

    def drew(self, picture: Drawn) -> Sign | None:
        """A picture came."""
        self._lately.pictures.append(picture)
        return self._found(self._blank, self._constant)

    def _found(self, *signs: Callable[[], Sign | None]) -> Sign | None:
        sign = next((found for look in signs if (found := look()) is not None), None)
        if sign is not None:
            self._lately = self._nothing()
        return sign

    def _errors(self) -> Sign | None:
        healthy = self._lately.healthy
        full = len(healthy) == self._config.calls
        return Sign.ERRORS if full and healthy.count(False) >= self._config.error_share * len(healthy) else None

    def _latency(self) -> Sign | None:
        config, seconds = self._config, list(self._lately.seconds)
        earlier, recent = seconds[: -config.recent], seconds[-config.recent :]
        if len(earlier) < config.before:
            return None
        now = statistics.median(recent)
        shifted = now > config.slower * statistics.median(earlier) and now > config.noticeable_s
        return Sign.LATENCY if shifted else None

    def _blank(self) -> Sign | None:
        pictures = self._lately.pictures
        blank = [picture for picture in pictures if picture.blank]
        many = len(pictures) >= self._config.requests and len(blank) >= self._config.blank_share * len(pictures)
        return Sign.BLANK if many and len({one.request for one in blank}) >= self._config.requests else None

    def _constant(self) -> Sign | None:
        different = {(picture.digest, picture.request) for picture in self._lately.pictures}
        most = max(Counter(digest for digest, _ in different).values(), default=0)
        return Sign.CONSTANT if most >= self._config.requests else None
