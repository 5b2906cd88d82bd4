"""The port of an engine: where drawings are made. Adapters stand beside this file; `__init__` has the table."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from services.inference.engine.facts import Fact, Load, Memory
from services.inference.engine.manifest import Model
from services.inference.engine.request import DrawRequest


class State(Enum):
    """Whether a model can draw now."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True)
class Status:
    """A model's state, and why it failed."""

    state: State
    error: str = ""


@dataclass(frozen=True)
class Busy:
    """How busy the engine of one model is, and the memory of its device."""

    load: Load
    memory: Memory


class Engine(Protocol):
    """Draws. Every method raises EngineUnavailable when the engine does not answer."""

    name: str

    async def start(self) -> None:
        """Connects or begins to load; returns without waiting for models."""

    async def stop(self) -> None:
        """Ends what runs. May be called twice, and before `start`."""

    def draw(self, request: DrawRequest) -> AsyncGenerator[Fact, None]:
        """Progress and Picture facts, then Finished. Closing the iterator frees the engine at its next step.

        Raises EngineFull, ModelNotLoaded, EngineFailed, EngineUnavailable.
        """
        ...

    async def load(self, model: Model) -> None:
        """Brings a model into memory and returns once it draws; one that is loaded stays as it is.

        ModelNotLoaded says why it failed, EngineFull when too many loads wait. Canceling does not stop the loading.
        """

    async def unload(self, model_id: str) -> None:
        """Takes a model out of memory and returns once that is free.

        New drawings are refused at once; running ones may end first, within the engine's patience, and are then ended
        with EngineUnavailable. Nothing happens to a model that is not loaded. Canceling does not stop it.
        """

    async def busy(self, model_id: str) -> Busy:
        """How busy it is. ModelNotLoaded when there is nothing to ask."""
        ...

    async def statuses(self) -> dict[str, Status]:
        """The state of every model the engine knows; one it does not list is UNLOADED."""
        ...

    async def ready(self) -> None:
        """Returns when the engine answers, else raises."""
