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
MOST_WHY = 400  # characters

Uses = tuple[LoraUse, ...]


class Adapters:
    """The adapters of one loaded pipeline. Any thread may call; a set is built by the first that asks for it.

    `generation` changes with every adapter that comes or goes.
    """

    def __init__(self, pipeline: Any, model: Model) -> None:
        self._pipeline = pipeline
        self._model = model
        self._known = dict(model.manifest.loras)
        self._sets: OrderedDict[Uses, Any] = OrderedDict()
        self._faults: dict[str, str] = {}
        self._lock = threading.Lock()
        self.generation = 0

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
        self._faults.pop(lora_id, None)
        for uses in [uses for uses in self._sets if any(use.lora_id == lora_id for use in uses)]:
            del self._sets[uses]

    def _built(self, uses: Uses) -> Any:
        if self._model.manifest.offload != "none" or self._model.manifest.device_map:
            raise ModelNotLoaded(f"{self._model.manifest.id} takes no loras while its weights are offloaded or spread")
        known = [self._wanted(use.lora_id) for use in uses]
        variant = copy.copy(self._pipeline)
        for name in _adapted_parts(self._pipeline):
            setattr(variant, name, _sharing_weights(getattr(self._pipeline, name)))
        names = [f"lora_{number}" for number in range(len(uses))]  # a module's name takes no dots, an id may have some
        for use, lora, name in zip(uses, known, names, strict=True):
            try:
                self._add(variant, lora, name)
            except Exception as error:  # the libraries below have one for everything
                raise self._fault(use.lora_id, f"could not be loaded, or does not fit the model: {error}") from error
        variant.set_adapters(names, [use.scale for use in uses])
        return variant

    def _wanted(self, lora_id: str) -> Lora:
        """The adapter's entry, unless it is known that it cannot be had."""
        if lora_id in self._faults:
            raise ModelNotLoaded(self._faults[lora_id])
        lora = self._known.get(lora_id)
        if lora is None:
            raise ModelNotLoaded(f"lora {lora_id} of {self._model.manifest.id} is not known")
        source = self._model.source(lora)
        if lora.path and not Path(source).exists():
            raise self._fault(lora_id, f"has no weights: nothing at {source}")
        return lora

    def _fault(self, lora_id: str, why: str) -> ModelNotLoaded:
        """Kept until the adapter is put again: trying costs time that others wait for. The first lines say enough."""
        short = " ".join(" ".join(why.splitlines()[:2]).split())[:MOST_WHY]
        self._faults[lora_id] = f"lora {lora_id} of {self._model.manifest.id} {short}"
        return ModelNotLoaded(self._faults[lora_id])

    def _add(self, variant: Any, lora: Lora, name: str) -> None:
        """Loads an adapter; ValueError where weights find no place, which the libraries below only log."""
        state = _tensors(variant, self._model.source(lora), lora)
        variant.load_lora_weights(dict(state), adapter_name=name)
        expected = sum(".lora" in key and not key.endswith(".alpha") for key in state)
        placed = sum(f".{name}." in key for part in _parts(variant) for key, _ in part.named_parameters())
        if placed != expected:
            raise ValueError(f"there is a place for {placed} of its {expected} tensors")


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
