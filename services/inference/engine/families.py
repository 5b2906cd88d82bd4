"""The model families, by the name that `model.yaml` uses. Importing this module imports torch and diffusers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from services.inference.engine.errors import ModelNotLoaded
from services.inference.engine.facts import Memory
from services.inference.engine.family import Family
from services.inference.engine.family_flux import Flux
from services.inference.engine.family_sd import StableDiffusion
from services.inference.engine.family_sd3 import StableDiffusion3
from services.inference.engine.family_sdxl import StableDiffusionXL
from services.inference.engine.manifest import Model

FAMILIES: Mapping[str, Callable[[Model, str], Family[Any]]] = {
    "stable-diffusion": StableDiffusion.load,
    "stable-diffusion-xl": StableDiffusionXL.load,
    "stable-diffusion-3": StableDiffusion3.load,
    "flux": Flux.load,
}


def load_family(model: Model, device: str) -> Family[Any]:
    """Loads a model's weights; ModelNotLoaded says why that failed."""
    if not model.has_weights:
        raise ModelNotLoaded(f"{model.manifest.id} has no weights: {model.missing}")
    try:
        return FAMILIES[model.manifest.family](model, device)
    except Exception as error:  # each library below has its own; one broken model stops no other
        raise ModelNotLoaded(f"{model.manifest.id} could not be loaded: {error}") from error


def pick_device() -> str:
    """The accelerator when there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_threads(threads: int) -> None:
    """How many CPU threads an operation of the calling thread may use: OpenMP counts them for each thread apart."""
    torch.set_num_threads(threads)


def device_memory(device: str) -> Memory:
    """The memory of `device`, as its driver tells it."""
    if device == "cpu":
        return _host_memory()
    free, total = torch.cuda.mem_get_info()
    return Memory("cuda:0", total, total - free)


def _host_memory() -> Memory:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Memory("cpu", total, total - free)
