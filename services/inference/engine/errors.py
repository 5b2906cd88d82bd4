"""What can go wrong in the engine.

    EngineError
    ├── RequestRefused     a value that this model cannot take; `violations` names each field and the fix
    ├── ModelUnknown       no such model; `nearest` lists similar names
    ├── ModelNotLoaded     the model is known and cannot draw now (or not in the version asked for)
    ├── EngineFull         the waiting list is full; `retry_after` says when to come back
    ├── Canceled           the caller stopped the request
    ├── EngineFailed       the device ran out of memory, or the model failed while drawing
    └── EngineUnavailable  the engine does not answer, or stopped before it was done

The edge maps them to the mesh's errors by a table; `code` is the reason it uses, and what travels from Triton.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.inference.engine.facts import Stage


@dataclass(frozen=True)
class Violation:
    """A field that is out of range, and what to send instead."""

    field: str
    fix: str


class EngineError(Exception):
    """A failure with a text fit for the caller."""

    code = "INTERNAL"
    stages: tuple[Stage, ...] = ()  # how far the request came; the last one is where it ended


class RequestRefused(EngineError):
    """A value that this model cannot take."""

    code = "INVALID_FIELD"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.fix}" for v in violations))
        self.violations = tuple(violations)


class ModelUnknown(EngineError):
    """No model has this name."""

    code = "MODEL_NOT_FOUND"

    def __init__(self, model_id: str, nearest: Sequence[str]) -> None:
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        super().__init__(f"no model is called {model_id!r}{hint}")
        self.nearest = tuple(nearest)


class ModelNotLoaded(EngineError):
    """The model is known and cannot draw now."""

    code = "MODEL_NOT_LOADED"


class EngineFull(EngineError):
    """The waiting list is full."""

    code = "ENGINE_FULL"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Canceled(EngineError):
    """The caller stopped the request."""

    code = "CANCELED"


class EngineFailed(EngineError):
    """The model failed while drawing."""

    code = "ENGINE_FAILED"


class EngineUnavailable(EngineError):
    """The engine does not answer, or stopped before it was done."""

    code = "PEER_UNAVAILABLE"


# Those that travel between processes as a code and a text.
BY_CODE: dict[str, type[EngineError]] = {
    kind.code: kind for kind in (ModelNotLoaded, EngineFull, Canceled, EngineFailed, EngineUnavailable)
}


def from_code(code: str, text: str) -> EngineError:
    """The error that another process named by `code`; EngineFailed for a code that does not travel."""
    return BY_CODE.get(code, EngineFailed)(text)
