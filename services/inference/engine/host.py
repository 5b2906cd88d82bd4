"""A model with an engine of its own: what Triton's shim and the in-process adapter both hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from services.inference.engine.admission import Limits
from services.inference.engine.engine import StepEngine
from services.inference.engine.facts import Memory
from services.inference.engine.families import device_memory, load_family, pick_device, release_memory, use_threads
from services.inference.engine.manifest import Model


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

    def close(self) -> None:
        """Ends what is drawn and gives the weights' memory back; blocks for the step in progress."""
        self.engine.stop()
        release_memory(self.device)

    def memory(self) -> Memory:
        """The memory of the model's device."""
        return device_memory(self.device)


def host_model(model: Model, config: HostConfig) -> LoadedModel:
    """Loads the weights and starts the engine; ModelNotLoaded says why that failed. Takes seconds."""
    device = config.device or pick_device()
    family = load_family(model, device)
    limits = Limits(slots=config.slots, waiting=config.waiting, rows=2 * model.manifest.max_batch)
    engine = StepEngine(family, limits, partial(use_threads, config.threads))
    engine.start()
    return LoadedModel(model, engine, device)
