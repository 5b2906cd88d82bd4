"""What Triton, its client and gRPC say when something fails, as the engine's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from tritonclient.utils import InferenceServerException

from services.inference.engine.errors import EngineError, EngineFailed, EngineUnavailable, ModelNotLoaded


class RefusedError(EngineUnavailable):
    """Triton calls the model ready and refuses to ask it."""


@contextmanager
def translated() -> Iterator[None]:
    """Turns what tritonclient and gRPC raise into the engine's errors."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _by_code(error.code(), error.details() or "") from error
    except InferenceServerException as error:
        raise _by_code(_CODES.get(error.status() or ""), error.message()) from error
    except TimeoutError as error:
        raise EngineUnavailable("Triton does not answer") from error
    except (KeyError, ValueError, TypeError) as error:
        raise EngineFailed(f"Triton's answer could not be read: {type(error).__name__}") from error


_CODES = {f"StatusCode.{code.name}": code for code in grpc.StatusCode}
_KINDS: dict[grpc.StatusCode, type[EngineError]] = {
    grpc.StatusCode.NOT_FOUND: ModelNotLoaded,
    grpc.StatusCode.INVALID_ARGUMENT: EngineFailed,
    grpc.StatusCode.INTERNAL: EngineFailed,
}


def _by_code(code: grpc.StatusCode | None, text: str) -> EngineError:
    """Anything but the few codes of the table means that Triton did not answer."""
    kind = EngineUnavailable if code is None else _KINDS.get(code, EngineUnavailable)
    return kind(f"Triton: {text}")


def load_failure(text: str) -> str:
    """What the shim said when it failed, without Triton's and Python's words around it."""
    return text.partition("\n\nAt:")[0].rpartition("ModelNotLoaded: ")[2].strip()
