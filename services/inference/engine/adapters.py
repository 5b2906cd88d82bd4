"""LoRAs: small adapters laid over a model's weights, several at once.

Every set of adapters gets a denoiser and text encoders of its own, made of new modules around the same weight tensors:
a set costs the memory of its adapters alone, passes without adapters pay nothing, and adapters come and go while other
requests are drawn. Requests with the same set share it and so can share a forward pass.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from services.inference.engine.errors import ModelNotLoaded
from services.inference.engine.manifest import Lora, Model
from services.inference.engine.request import LoraUse

MOST_SETS = 16  # kept for later requests; those not used the longest leave first

Uses = tuple[LoraUse, ...]


class Adapters:
    """The adapters of one loaded pipeline. Any thread may call; a set is built by the first that asks for it."""

    def __init__(self, pipeline: Any, model: Model) -> None:
        self._pipeline = pipeline
        self._model = model
        self._known = dict(model.manifest.loras)
        self._sets: OrderedDict[Uses, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.generation = 0  # changes with every adapter that comes or goes

    def put(self, lora_id: str, lora: Lora) -> None:
        """Adds an adapter, or replaces it for requests that come later; its weights are read when it is first used."""
        with self._lock:
            self._forget(lora_id)
            self._known[lora_id] = lora

    def remove(self, lora_id: str) -> None:
        """Takes an adapter away from requests that come later."""
        with self._lock:
            self._forget(lora_id)
            self._known.pop(lora_id, None)

    def pipeline(self, uses: Uses) -> Any:
        """The pipeline with these adapters; ModelNotLoaded says which of them does not load or fit, and why."""
        if not uses:
            return self._pipeline
        with self._lock:
            if uses not in self._sets:
                self._sets[uses] = self._built(uses)
            self._sets.move_to_end(uses)
            while len(self._sets) > MOST_SETS:
                self._sets.popitem(last=False)
            return self._sets[uses]

    def _forget(self, lora_id: str) -> None:
        self.generation += 1
        for uses in [uses for uses in self._sets if any(use.lora_id == lora_id for use in uses)]:
            del self._sets[uses]

    def _built(self, uses: Uses) -> Any:
        if self._model.manifest.offload != "none" or self._model.manifest.device_map:
            raise ModelNotLoaded(f"{self._model.manifest.id} takes no loras while its weights are offloaded or spread")
        variant = copy.copy(self._pipeline)
        for name in _adapted_parts(self._pipeline):
            setattr(variant, name, _sharing_weights(getattr(self._pipeline, name)))
        for number, use in enumerate(uses):
            self._add(variant, use.lora_id, f"lora_{number}")  # a module's name takes no dots, an id may have some
        variant.set_adapters([f"lora_{number}" for number in range(len(uses))], [use.scale for use in uses])
        return variant

    def _add(self, variant: Any, lora_id: str, name: str) -> None:
        """The libraries below have an exception for everything, and a log line for weights they find no place for."""
        what = f"lora {lora_id} of {self._model.manifest.id}"
        lora = self._known.get(lora_id)
        if lora is None:
            raise ModelNotLoaded(f"{what} is not known")
        source = self._model.source(lora)
        if lora.path and not Path(source).exists():
            raise ModelNotLoaded(f"{what} has no weights: nothing at {source}")
        try:
            state = _tensors(variant, source, lora)
            variant.load_lora_weights(dict(state), adapter_name=name)
        except Exception as error:
            raise ModelNotLoaded(f"{what} could not be loaded, or does not fit the model: {error}") from error
        expected = sum(".lora" in key and not key.endswith(".alpha") for key in state)
        placed = sum(f".{name}." in key for part in _parts(variant) for key, _ in part.named_parameters())
        if placed != expected:
            raise ModelNotLoaded(f"{what} does not fit the model: it has a place for {placed} of {expected} tensors")


def _tensors(variant: Any, source: str, lora: Lora) -> dict[str, torch.Tensor]:
    options = {"weight_name": lora.file} if lora.file else {}
    state = variant.lora_state_dict(source, revision=lora.revision or None, local_files_only=bool(lora.path), **options)
    tensors: dict[str, torch.Tensor] = state[0] if isinstance(state, tuple) else state
    return tensors


def _adapted_parts(pipeline: Any) -> list[str]:
    return [name for name in pipeline._lora_loadable_modules if getattr(pipeline, name, None) is not None]


def _parts(pipeline: Any) -> Iterable[torch.nn.Module]:
    return (getattr(pipeline, name) for name in _adapted_parts(pipeline))


def _sharing_weights(module: torch.nn.Module) -> torch.nn.Module:
    """New modules around the same tensors."""
    tensors = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, tensors)
