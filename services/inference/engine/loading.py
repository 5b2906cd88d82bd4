"""Reads a pipeline as its manifest says: from a folder or the hub, in a dtype, onto one device or several.

The libraries below fill gaps silently: with random weights, with no weights, with an empty vocabulary. A model that was
copied in part must not draw nonsense, so each gap is an error here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from services.inference.engine.manifest import Model


def load_pipeline(pipeline_class: Any, model: Model, device: str, options: Mapping[str, Any]) -> Any:
    """The pipeline on its device. OSError or ValueError when weights are missing or broken, or do not fit together."""
    manifest, weights = model.manifest, model.manifest.weights
    spread = {"device_map": manifest.device_map} if manifest.device_map and device != "cpu" else {}
    quiet()
    source, revision = str(model.weights_folder or weights.hub), weights.revision if weights.hub else None
    with _no_random_weights():
        pipeline = pipeline_class.from_pretrained(
            source,
            revision=revision,
            variant=weights.variant or None,
            dtype=torch.float32 if device == "cpu" else getattr(torch, manifest.dtype),
            **spread,
            **options,
            **dict.fromkeys(manifest.leave_out),
        )
    _check_readers(pipeline, pipeline_class.load_config(source, revision=revision), manifest.family)
    _check_vocabularies(pipeline)
    if spread:
        return pipeline
    for part, module in _modules(pipeline):
        check_whole(module, f"{part}.")
    return placed(pipeline, manifest.offload, device)


class _Reports(logging.Handler):
    """Keeps the names of the weights that transformers replaced by random ones: it tells them by a table in its log."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        rows = (line.split("|") for line in record.getMessage().splitlines())
        self.missing += [row[0].strip() for row in rows if len(row) > 1 and "MISSING" in row[1]]


@contextmanager
def _no_random_weights() -> Iterator[None]:
    """ValueError when transformers replaced weights. One thread at a time: it listens to a log of the whole process."""
    log, reports = logging.getLogger("transformers.modeling_utils"), _Reports()
    level, propagate = log.level, log.propagate
    log.setLevel(logging.WARNING)
    log.propagate = False
    log.addHandler(reports)
    try:
        yield
    finally:
        log.removeHandler(reports)
        log.propagate = propagate
        log.setLevel(level)
    if reports.missing:
        raise ValueError(f"its files have no weights for {_named(reports.missing)}")


def check_whole(module: torch.nn.Module, part: str = "") -> None:
    """ValueError when diffusers left weights that its files do not hold on a device without memory."""
    if missing := [f"{part}{name}" for name, tensor in module.named_parameters() if tensor.is_meta]:
        raise ValueError(f"its files have no weights for {_named(missing)}")


def _check_readers(pipeline: Any, index: Mapping[str, Any], family: str) -> None:
    """What reads the prompt may be left out only where the model's own list of parts says so."""
    for name, part in pipeline.components.items():
        if part is None and name.startswith(("text_encoder", "tokenizer")) and name not in index:
            raise ValueError(f"it has no {name}; is its family {family}?")


def _check_vocabularies(pipeline: Any) -> None:
    """A tokenizer without its files knows no words; one with more words than its encoder fails while it draws."""
    for part, encoder in _modules(pipeline):
        name = part.replace("text_encoder", "tokenizer")
        tokenizer = getattr(pipeline, name, None)
        if name == part or tokenizer is None:
            continue
        words = len(tokenizer)
        if words <= len(set(tokenizer.all_special_tokens)):
            raise ValueError(f"its {name} has no vocabulary")
        if words > encoder.config.vocab_size:
            raise ValueError(f"its {name} has {words} words where {part} reads {encoder.config.vocab_size}")


def _modules(pipeline: Any) -> Iterator[tuple[str, Any]]:
    return ((name, part) for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module))


def _named(missing: list[str]) -> str:
    more = len(missing) - 1
    return f"{missing[0]}{f' and {more} more' if more else ''}"


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
