"""LoRAs: small adapters laid over a model's weights, several at once.

Every set of adapters gets a denoiser and text encoders of its own, made of new modules around the same weight tensors:
a set costs the memory of its adapters alone, passes without adapters pay nothing, and adapters come and go while other
requests are drawn. Requests with the same set share it and so can share a forward pass. A request that runs holds on to
its set, whatever happens to the files.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from services.inference.engine.errors import RequestRefused, Violation
from services.inference.engine.loras import LoraShelf, LoraSource, Stamp, settings_of
from services.inference.engine.manifest import Model
from services.inference.engine.request import LoraUse

MOST_SETS = 16  # kept for later requests; those not used the longest leave first
MOST_BYTES = 2 * 2**30  # of all their adapters; a set larger than that is kept alone
MOST_WHY = 400  # characters

Uses = tuple[LoraUse, ...]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Adapted:
    """A pipeline with adapters. `mark` names them with their weights; `bytes` is what they take."""

    pipeline: Any
    mark: Hashable = ()
    bytes: int = 0


class Adapters:
    """The adapters of one loaded pipeline. Any thread may call; a set is built by the first that asks for it."""

    def __init__(self, pipeline: Any, model: Model) -> None:
        self._plain = Adapted(pipeline)
        self._model = model
        self._shelf = LoraShelf(model)
        self._sets: OrderedDict[tuple[tuple[LoraUse, Stamp], ...], Adapted] = OrderedDict()
        self._faults: dict[tuple[str, Stamp], str] = {}
        self._lock = threading.Lock()

    def take(self, uses: Uses) -> Adapted:
        """The pipeline with these adapters as their files are now; RequestRefused names the one that cannot be used."""
        if not uses:
            return self._plain
        with self._lock:
            there = self._shelf.look()
            self._forget(there)
            sources = [self._wanted(use.lora_id, there) for use in uses]
            mark = tuple((use, source.stamp) for use, source in zip(uses, sources, strict=True))
            if mark not in self._sets:
                self._sets[mark] = self._built(uses, sources, mark)
            self._sets.move_to_end(mark)
            while len(self._sets) > MOST_SETS or (len(self._sets) > 1 and self._bytes() > MOST_BYTES):
                self._sets.popitem(last=False)
            return self._sets[mark]

    def _bytes(self) -> int:
        return sum(adapted.bytes for adapted in self._sets.values())

    def _forget(self, there: Mapping[str, LoraSource]) -> None:
        """Lets go of what was made of files that have changed or gone."""
        current = {(name, source.stamp) for name, source in there.items()}
        for mark in [mark for mark in self._sets if not current.issuperset((use.lora_id, at) for use, at in mark)]:
            del self._sets[mark]
        self._faults = {key: why for key, why in self._faults.items() if key in current}

    def _wanted(self, lora_id: str, there: Mapping[str, LoraSource]) -> LoraSource:
        source = there.get(lora_id)
        if source is None:
            raise self._refused(lora_id, self._model.manifest.takes_no_loras or "is not there (any more)")
        if fault := source.fault or self._faults.get((lora_id, source.stamp), ""):
            raise self._refused(lora_id, fault)
        return source

    def _refused(self, lora_id: str, why: str) -> RequestRefused:
        return RequestRefused([Violation("loras", f"lora {lora_id} of {self._model.manifest.id} {why}")])

    def _built(self, uses: Uses, sources: Iterable[LoraSource], mark: Hashable) -> Adapted:
        plain = self._plain.pipeline
        variant = copy.copy(plain)
        for part in _adapted_parts(plain):
            setattr(variant, part, _sharing_weights(getattr(plain, part)))
        names = [f"lora_{number}" for number in range(len(uses))]  # a module's name takes no dots, an id may have some
        for use, source, name in zip(uses, sources, names, strict=True):
            self._add(variant, use.lora_id, source, name)
        variant.set_adapters(names, [use.scale for use in uses])
        return Adapted(variant, mark, sum(_size(variant, name) for name in names))

    def _add(self, variant: Any, lora_id: str, source: LoraSource, name: str) -> None:
        """Remembers what does not fit until the file changes: trying costs time that others wait for."""
        try:
            _lay_over(variant, source, name)
        except OSError as error:
            raise self._refused(lora_id, f"cannot be read: {error}") from error
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the libraries below have one for everything
            self._faults[lora_id, source.stamp] = f"does not fit the model: {_short(str(error))}"
            raise self._refused(lora_id, self._faults[lora_id, source.stamp]) from error


class _Reading:
    """Stands before a pipeline's `lora_state_dict`, and keeps the tensors that it gave.

    diffusers looks for `settings` only in a file that it opens itself, so they are told to it here.
    """

    def __init__(self, read: Any, settings: Mapping[str, Any] | None) -> None:
        self._read = read
        self._settings = settings
        self.tensors: Tensors = {}

    def __call__(self, *where: Any, **options: Any) -> Any:
        tensors, *between, settings = self._read(*where, **options)
        self.tensors = dict(tensors)
        return tensors, *between, self._settings or settings


def _lay_over(variant: Any, source: LoraSource, name: str) -> None:
    """Loads an adapter; ValueError where weights find no place, which the libraries below only log."""
    where, settings, options = _opened(source)
    widths = _widths(variant)  # diffusers would change them for an adapter that is a control of FLUX
    reading = _Reading(variant.lora_state_dict, settings)
    variant.lora_state_dict = reading
    try:
        variant.load_lora_weights(where, adapter_name=name, **options)
    finally:
        del variant.lora_state_dict
    expected = sum(not key.endswith(".alpha") for key in reading.tensors)
    placed = sum(1 for _ in _tensors(variant, name))
    if placed != expected or not placed:
        raise ValueError(f"there is a place for {placed} of its {expected} tensors")
    if _widths(variant) != widths:
        raise ValueError("it makes the model's input wider")


def _opened(source: LoraSource) -> tuple[Any, Mapping[str, Any] | None, dict[str, Any]]:
    """What `load_lora_weights` reads, its settings, and options.

    A file is read whole: what is mapped into memory would take the process with it when somebody writes over the file.
    """
    if source.hub is None:
        data = Path(source.file).read_bytes()
        return safetensors.torch.load(data), settings_of(data), {}
    lora = source.hub
    return lora.hub, None, {"revision": lora.revision, "use_safetensors": True, "weight_name": lora.file or None}


def _short(why: str) -> str:
    """The first lines say enough."""
    return " ".join(" ".join(why.splitlines()[:2]).split())[:MOST_WHY]


def _adapted_parts(pipeline: Any) -> list[str]:
    return [name for name in pipeline._lora_loadable_modules if getattr(pipeline, name, None) is not None]


def _tensors(pipeline: Any, name: str) -> Iterable[torch.Tensor]:
    """The tensors of an adapter."""
    for part in _adapted_parts(pipeline):
        yield from (tensor for key, tensor in getattr(pipeline, part).named_parameters() if f".{name}." in key)


def _widths(pipeline: Any) -> list[int | None]:
    return [getattr(getattr(pipeline, part).config, "in_channels", None) for part in _adapted_parts(pipeline)]


def _size(pipeline: Any, name: str) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(pipeline, name))


def _sharing_weights(module: torch.nn.Module) -> torch.nn.Module:
    """New modules around the same tensors."""
    tensors = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, tensors)
