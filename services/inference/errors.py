"""The engine's errors as the mesh's: one table, read by one context manager at the edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from mesh.errors import (
    Canceled,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    MeshError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.inference.engine import errors as engine

FIELDS = {"image": "images[0]"}  # what the contract calls them, where the engine calls them otherwise


def _refused(error: engine.RequestRefused) -> MeshError:
    found = [
        FieldViolation(FIELDS.get(violation.field, violation.field), violation.fix) for violation in error.violations
    ]
    return InvalidArgument(str(error), violations=found)


def _unknown(error: engine.ModelUnknown) -> MeshError:
    return NotFound(str(error), reason=error.code, metadata={"nearest": ", ".join(error.nearest)})


def _full(error: engine.EngineFull) -> MeshError:
    return ResourceExhausted(str(error), reason=error.code, retry_after=error.retry_after)


def _plain(kind: type[MeshError]) -> Callable[[engine.EngineError], MeshError]:
    return lambda error: kind(str(error), reason=error.code)


TABLE: Mapping[type[engine.EngineError], Callable[..., MeshError]] = {
    engine.RequestRefused: _refused,
    engine.ModelUnknown: _unknown,
    engine.EngineFull: _full,
    engine.ModelNotLoaded: _plain(FailedPrecondition),
    engine.Canceled: _plain(Canceled),
    engine.EngineUnavailable: _plain(Unavailable),
    engine.EngineFailed: _plain(Internal),
}


@contextmanager
def engine_errors() -> Iterator[None]:
    """Turns the engine's errors into the mesh's."""
    try:
        yield
    except engine.EngineError as error:
        translate = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
        raise translate(error) from error
