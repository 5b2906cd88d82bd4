"""A model with an engine of its own: what Triton's shim and the in-process adapter both hold."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from services.inference.engine.admission import Limits
from services.inference.engine.engine import StepEngine, unobserved
from services.inference.engine.facts import Memory, Pass
from services.inference.engine.families import device_memory, load_family, pick_device, use_threads
from services.inference.engine.limits import limits_of
from services.inference.engine.manifest import Model

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class HostConfig:
    """How an engine runs here. `device` empty picks the accelerator when there is one."""

    slots: int = 8
    waiting: int = 64
    threads: int = 2
    device: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A model that draws."""

    model: Model
    engine: StepEngine
    device: str

    def close(self, patience: float = 0.0) -> None:
        """Ends what is drawn and gives the weights' memory back; blocks.

        `patience`: seconds that running and waiting drawings may take to end by themselves.
        """
        ends = time.monotonic() + patience
        while self._busy() and time.monotonic() < ends:
            time.sleep(POLL_SECONDS)
        self.engine.stop()
        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def _busy(self) -> bool:
        load = self.engine.load()
        return bool(load.running or load.waiting)

    def memory(self) -> Memory:
        """The memory of the model's device."""
        return device_memory(self.device)


def host_model(model: Model, config: HostConfig, observe: Callable[[Pass], None] = unobserved) -> LoadedModel:
    """Loads the weights and starts the engine; ModelNotLoaded says why that failed. Takes seconds.

    `observe` hears of every forward pass.
    """
    device = config.device or pick_device()
    family = load_family(model, device)
    limits = limits_of(
        model.manifest, family, Limits(slots=config.slots, waiting=config.waiting), device_memory(device)
    )
    engine = StepEngine(family, limits, partial(use_threads, config.threads), observe=observe)
    engine.start()
    return LoadedModel(model, engine, device)
