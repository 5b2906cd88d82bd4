"""Reads a pipeline as its manifest says: from a folder or the hub, in a dtype, onto one device or several."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from services.inference.engine.manifest import Model


def load_pipeline(pipeline_class: Any, model: Model, device: str, options: Mapping[str, Any]) -> Any:
    """The pipeline on its device. OSError or ValueError of diffusers when weights are missing or broken."""
    manifest, weights = model.manifest, model.manifest.weights
    spread = {"device_map": manifest.device_map} if manifest.device_map and device != "cpu" else {}
    quiet()
    pipeline = pipeline_class.from_pretrained(
        str(model.weights_folder or weights.hub),
        revision=weights.revision if weights.hub else None,
        variant=weights.variant or None,
        dtype=torch.float32 if device == "cpu" else getattr(torch, manifest.dtype),
        **spread,
        **options,
        **dict.fromkeys(manifest.leave_out),
    )
    return pipeline if spread else placed(pipeline, manifest.offload, device)


def placed(pipeline: Any, offload: str, device: str) -> Any:
    """The pipeline on its device, or in host memory with its weights coming to the device when they are needed."""
    if offload == "none" or device == "cpu":
        return pipeline.to(device)
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def widen_vae(pipeline: Any) -> None:
    """Keeps a VAE that overflows in float16 (its configuration says so) in float32."""
    vae = pipeline.vae
    if vae.config.force_upcast and vae.dtype == torch.float16:
        vae.to(torch.float32)


def quiet() -> None:
    """Otherwise loading draws progress bars into the service's log, and a prompt too long is logged word for word."""
    libraries: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")  # several adapters are no mistake here
