"""A model family without numbers: it records who was stepped with whom, and waits at a gate the test opens."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.inference.engine.engine import StepEngine
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Fact, Finished
from services.inference.engine.request import DrawRequest
from services.inference.engine.work import Work

DEADLINE_S = 20.0


@dataclass
class FakeSampling:
    request: DrawRequest
    done: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        return self.request.width, self.request.height

    @property
    def rows(self) -> int:
        return self.request.count

    @property
    def steps(self) -> int:
        return self.request.steps


class FakeFamily:
    """Fails where the prompt says so: `fail begin`, `fail predict`, `fail picture`."""

    device = "cpu"

    def __init__(self, gated: bool = False) -> None:
        self.passes: list[list[str]] = []
        self._gate = threading.Semaphore(0)
        self._gated = gated
        self.arrived = threading.Semaphore(0)

    def open(self, passes: int) -> None:
        """Lets `passes` forward passes through."""
        self._gate.release(passes)

    def open_for_ever(self) -> None:
        self._gated = False
        self._gate.release(1000)

    def begin(self, request: DrawRequest) -> FakeSampling:
        _maybe_fail(request, "begin")
        return FakeSampling(request)

    def predict(self, batch: Sequence[FakeSampling]) -> list[int]:
        if self._gated:
            self.arrived.release()
            assert self._gate.acquire(timeout=DEADLINE_S), "the test never opened the gate"
        self.passes.append([sampling.request.request_id for sampling in batch])
        for sampling in batch:
            _maybe_fail(sampling.request, "predict")
        return [1 for _ in batch]

    def advance(self, sampling: FakeSampling, prediction: int) -> None:
        sampling.done += prediction

    def look(self, sampling: FakeSampling) -> list[Any]:
        _maybe_fail(sampling.request, "look")
        return [np.full((4, 8, 3), sampling.done, dtype=np.uint8) for _ in range(sampling.request.count)]

    def picture(self, sampling: FakeSampling, index: int) -> bytes:
        _maybe_fail(sampling.request, "picture")
        return f"{sampling.request.request_id}:{sampling.request.seeds[index]}:{sampling.done}".encode()


def _maybe_fail(request: DrawRequest, where: str) -> None:
    if request.prompt == f"fail {where}":
        raise RuntimeError(f"{where} went wrong")


def drawing(request_id: str, **changes: object) -> DrawRequest:
    values: dict[str, object] = {
        "request_id": request_id, "model_id": "fake", "prompt": "a star", "negative_prompt": "", "width": 32,
        "height": 32, "count": 1, "seed": 7, "steps": 4, "guidance": 1.0, "scheduler": "ddim",
    }  # fmt: skip
    return DrawRequest(**{**values, **changes})  # type: ignore[arg-type]


class Listener:
    """Collects one request's facts."""

    def __init__(self, engine: StepEngine, request: DrawRequest) -> None:
        self._facts: queue.Queue[Fact | EngineError] = queue.Queue()
        self._seen: list[Fact | EngineError] = []
        self.work: Work = engine.submit(request, self._facts.put)

    def wait_for(self, wanted: Fact) -> None:
        """Reads until `wanted` came."""
        while self.next() != wanted:
            pass

    def next(self) -> Fact | EngineError:
        fact = self._facts.get(timeout=DEADLINE_S)
        self._seen.append(fact)
        return fact

    def all(self) -> list[Fact | EngineError]:
        """Everything, up to and with the end."""
        while not (self._seen and isinstance(self._seen[-1], Finished | EngineError)):
            self.next()
        return self._seen

    def end(self) -> Finished | EngineError:
        last = self.all()[-1]
        assert isinstance(last, Finished | EngineError)
        return last
