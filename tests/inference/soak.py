"""Many requests at once, some canceled, some broken: nothing may leak, hang, or see another's seed."""

from __future__ import annotations

import gc
import io
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psutil
from PIL import Image

from services.inference.engine.engine import StepEngine
from services.inference.engine.errors import Canceled, EngineError, EngineFull, RequestRefused
from services.inference.engine.facts import Fact, Finished, Picture, Progress
from services.inference.engine.request import ControlInput, DrawRequest, Lane, LoraUse
from services.inference.engine.work import Work
from tests.inference.tiny_extras import half, png, scene

DEADLINE_S = 120.0
SHARED = 2  # of 255: what company may change
SAMPLES = 20  # of the process's memory, spread over the requests
BETWEEN = 25  # requests at least, for collecting garbage before a sample takes a second

Pixels = np.ndarray[Any, Any]


class Asked:
    """One submitted request and all it was told. It is canceled after `cancel_at` steps."""

    def __init__(
        self, engine: StepEngine, request: DrawRequest, free: threading.Semaphore, cancel_at: int = -1
    ) -> None:
        self.request = request
        self.pictures: list[bytes] = []
        self.end: Finished | EngineError | None = None
        self.told_after_end = False
        self._cancel_at = cancel_at
        self._free = free
        self._engine = engine
        self._submitted = threading.Event()
        self.work: Work = engine.submit(request, self._hear)
        self._submitted.set()

    def _hear(self, fact: Fact | EngineError) -> None:
        self.told_after_end |= self.end is not None
        if isinstance(fact, Picture):
            self.pictures.append(fact.data)
        elif isinstance(fact, Progress) and fact.step == self._cancel_at:
            assert self._submitted.wait(DEADLINE_S)
            self.work.cancel()
        elif isinstance(fact, Finished | EngineError):
            self.end = fact
            self._free.release()


@dataclass
class Outcome:
    """How many requests ended how, and the process's memory on the way, in bytes."""

    ends: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Memory at the end against memory after the first fifth, which warms allocators and caches up, less one."""
        warm = self.memory[len(self.memory) // 5]
        return max(self.memory[-3:]) / warm - 1


def pool(model_id: str, turns: int) -> list[DrawRequest]:
    """Distinct small requests of every operation; each seed occurs once, so that pictures tell whose they are."""
    image, adapters = png(scene(1)), (LoraUse("style.one", 0.7), LoraUse("two", -0.4))
    plain = DrawRequest("", model_id, "a red star", "", 32, 32, 1, 0, 3, 5.0, "ddim")
    kinds = [
        plain,
        replace(plain, width=40, steps=2, scheduler="dpmpp_2m"),
        replace(plain, height=48, count=2, guidance=1.0, steps=4, scheduler="euler_a"),
        replace(plain, operation="image_to_image", image=image, strength=0.7),
        replace(plain, operation="inpaint", image=image, mask=png(half())),
        replace(plain, operation="control", controls=(ControlInput("edges", png(scene(2)), 0.8),)),
        replace(plain, loras=adapters[:1], steps=2, lane=Lane.BATCH),
        replace(plain, loras=adapters, previews=2, lane=Lane.BATCH),
    ]
    return [replace(kind, seed=1000 * turn + 10 * number) for turn in range(turns) for number, kind in enumerate(kinds)]


def broken(request: DrawRequest) -> Iterator[DrawRequest]:
    """Requests that fail while they are read."""
    yield replace(request, loras=(LoraUse("foreign"),))
    yield replace(request, loras=(LoraUse("gone"),))
    yield replace(request, operation="image_to_image", image=png(scene(1, (128, 128)))[:600])
    yield replace(request, controls=(ControlInput("gone", png(scene(1))),))


def soak(engine: StepEngine, kinds: list[DrawRequest], requests: int, at_once: int) -> Outcome:
    """Draws each kind of request alone, then `requests` of them at random; AssertionError when a promise broke."""
    chance = random.Random(7)
    alone = {request.seed: _pixels(_alone(engine, request)) for request in kinds}
    outcome, free, asked = Outcome(), threading.Semaphore(at_once), []
    for number in range(requests):
        assert free.acquire(timeout=DEADLINE_S), "a request is stuck"
        asked.append(_ask(engine, _choice(chance, kinds, number), free, chance))
        if number % max(BETWEEN, requests // SAMPLES) == 0:
            outcome.memory.append(_memory())
            asked = [each for each in asked if not _checked(each, alone, outcome)]
    for _ in range(at_once):
        assert free.acquire(timeout=DEADLINE_S), "a request is stuck"
    assert all(_checked(each, alone, outcome) for each in asked), "a request is stuck"
    outcome.memory.append(_memory())
    assert engine.load().requests == ()
    return outcome


def _ask(engine: StepEngine, request: DrawRequest, free: threading.Semaphore, chance: random.Random) -> Asked:
    cancel_at = chance.randint(0, request.steps) if chance.random() < 0.3 else -1
    try:
        return Asked(engine, request, free, cancel_at)
    except EngineFull:
        raise AssertionError("there are as many places as requests at once") from None


def _choice(chance: random.Random, kinds: list[DrawRequest], number: int) -> DrawRequest:
    request = chance.choice(kinds)
    if chance.random() < 0.15:
        request = chance.choice(list(broken(request)))
    return replace(request, request_id=f"r{number}")


def _alone(engine: StepEngine, request: DrawRequest) -> list[bytes]:
    done = threading.Semaphore(0)
    asked = Asked(engine, request, done)
    assert done.acquire(timeout=DEADLINE_S)
    assert isinstance(asked.end, Finished), asked.end
    return asked.pictures


def _checked(asked: Asked, alone: dict[int, list[Pixels]], outcome: Outcome) -> bool:
    """Whether it has ended; then it ended as it must."""
    if asked.end is None:
        return False
    outcome.ends[type(asked.end).__name__] += 1
    assert not asked.told_after_end
    if isinstance(asked.end, Finished):
        wanted, drawn = alone[asked.request.seed], _pixels(asked.pictures)
        assert max(int(abs(a - b).max()) for a, b in zip(wanted, drawn, strict=True)) <= SHARED, asked.request
    else:
        assert isinstance(asked.end, Canceled | RequestRefused), asked.end
    return True


def _pixels(pictures: list[bytes]) -> list[Pixels]:
    return [np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in pictures]


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)
