"""What the flow-matching families share: their schedulers, the shift by resolution, and where an image begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from services.inference.engine.request import DrawRequest
from services.inference.engine.schedulers import SCHEDULERS

BASE_TOKENS, MAX_TOKENS, BASE_SHIFT = 256, 4096, 0.5  # where the scheduler's configuration says nothing


def build_flow(name: str, config: Mapping[str, Any], steps: int, device: str, timing: Mapping[str, Any]) -> Any:
    """A fresh scheduler of this name, set to `steps` with the family's own `timing` (its `sigmas` and shift `mu`)."""
    import diffusers

    kind = SCHEDULERS[name]
    scheduler = getattr(diffusers, kind.class_name).from_config(dict(config), **kind.settings)
    scheduler.set_timesteps(None if "sigmas" in timing else steps, device=device, **timing)
    return scheduler


def resolution_shift(config: Mapping[str, Any], tokens: int, max_shift: float) -> float:
    """The shift `mu` for a picture of so many tokens: larger pictures spend more steps in the noise.

    A line through (base, base_shift) and (most, max_shift), arXiv:2403.03206 section 5.3.2 as diffusers computes it.
    """
    base, most = config.get("base_image_seq_len", BASE_TOKENS), config.get("max_image_seq_len", MAX_TOKENS)
    low, high = config.get("base_shift", BASE_SHIFT), config.get("max_shift", max_shift)
    slope = (high - low) / (most - base)
    return float(tokens * slope + low - slope * base)


def destination(scheduler: Any, velocity: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Where the straight line that was just followed to `latents` ends: latents without noise."""
    end: torch.Tensor = latents - scheduler.sigmas[scheduler.step_index] * velocity
    return end


def skipped_steps(request: DrawRequest) -> int:
    """Steps left out because the drawing begins from an image, as the flow-matching pipelines count them."""
    return int(max(request.steps - request.steps * request.strength, 0))
