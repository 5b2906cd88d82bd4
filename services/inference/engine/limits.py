"""How much an engine takes on with one model on one device: the manifest's word, and what the device has to give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from services.inference.engine.admission import MIB, Limits
from services.inference.engine.facts import Memory
from services.inference.engine.family import Family
from services.inference.engine.manifest import Manifest
from services.inference.engine.request import DrawRequest, Wanted
from services.inference.engine.settling import settle

SPARE = 0.1  # of what is free is left alone: allocators fragment, and prompts are read beside the steps


def limits_of(manifest: Manifest, family: Family[Any], limits: Limits, memory: Memory) -> Limits:
    """`limits` with the manifest's own figures and the device's memory, as it is once the weights are loaded.

    Without a figure in the manifest one picture is drawn on an accelerator, to see what it takes; on the CPU memory is
    not counted then.
    """
    limits = replace(
        limits,
        slots=manifest.slots or limits.slots,
        waiting=manifest.max_waiting or limits.waiting,
        rows=2 * manifest.max_batch,
    )
    default = manifest.defaults
    if manifest.row_memory_mb:
        row, picture = manifest.row_memory_mb * MIB, 0
    elif family.device == "cpu":
        return limits
    else:
        row, picture = _measured(family, settle(Wanted(manifest.id, "a star", steps=2), manifest, lambda: 0))
    free = round((memory.total - memory.used) * (1 - SPARE)) - picture
    return replace(limits, memory=max(free, 1), pixel_bytes=row / (default.width * default.height))


def _measured(family: Family[Any], request: DrawRequest) -> tuple[float, int]:
    """Bytes that one row of a pass and the decoding of a picture take on the accelerator, beside the weights."""
    sampling = family.begin(request)
    with _Peak(family.device) as steps:
        for _ in range(sampling.steps):
            [prediction] = family.predict([sampling])
            family.advance(sampling, prediction)
    with _Peak(family.device) as decoding:
        family.picture(sampling, 0)
    torch.cuda.empty_cache()
    return steps.bytes / sampling.rows, decoding.bytes


class _Peak:
    """The most memory that was in use inside a `with`, above what was before it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.bytes = 0

    def __enter__(self) -> _Peak:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = torch.cuda.max_memory_allocated(self._device) - self._before
