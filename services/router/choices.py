"""What the fallback decides about: candidates as it sees them, what came of asking them, and what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from services.router.providers.base import ProviderResult
from services.router.providers.errors import ErrorKind


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate as the fallback sees it."""

    provider: str
    model: str
    """The provider's own name of the model."""
    max_count: int = 1
    """Pictures one call can draw."""
    replay_safe: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """An order that brought nothing."""

    provider: str
    model: str
    kind: ErrorKind
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """An order whose pictures are in hand and not stored yet. `indices` are those that came, in order."""

    attempt_id: str
    choice: Choice
    indices: tuple[int, ...]
    result: ProviderResult
    refused: tuple[int, ...] = ()
    """Indices of pictures that the provider's filter kept back."""

    @classmethod
    def of(cls, attempt_id: str, choice: Choice, asked: tuple[int, ...], result: ProviderResult) -> Delivered:
        """What came of an order for the indices `asked`."""
        if result.places is None:
            return cls(attempt_id, choice, asked[: len(result.images)], result)
        came = tuple(asked[place] for place in result.places)
        return cls(attempt_id, choice, came, result, tuple(index for index in asked if index not in came))


@dataclass(frozen=True, slots=True)
class Later:
    """Nobody can draw now; somebody may after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GaveUp:
    """Nobody will draw. `reason` is one of the contract; `refused` says that a safety filter did it."""

    reason: str
    message: str
    refused: bool = False


def _never() -> bool:
    """Nobody wants to stop."""
    return False


def _at_no_time(_choice: Choice) -> float | None:
    """Nobody is asked beside anybody."""
    return None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be ordered now."""

    choices: Sequence[Choice]
    missing: tuple[int, ...]
    ends: float
    """When the job's time for orders is over, on the fallback's clock."""
    fail_on_unknown: bool = False
    hedge_after: Callable[[Choice], float | None] = _at_no_time
    """How long a choice may take before a second one is asked beside it; None: as long as it likes."""
    stopping: Callable[[], bool] = _never
    """Once true, nothing more is ordered in this run; the answer is then `Later` as long as somebody may still draw."""


Ask = Callable[[Choice, tuple[int, ...]], Coroutine[Any, Any, Delivered | Failed]]
"""Places one order and tells how it went. Raises only what ends the run: cancellation, a lost lease."""
