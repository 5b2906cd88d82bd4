"""The state of one request of a latent pipeline between two steps, and what happens to it outside the denoiser."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch

from services.inference.engine.prompt_cache import Conditions
from services.inference.engine.request import DrawRequest


@dataclass(frozen=True)
class Kept:
    """What inpainting puts back outside its mask after each step; all tensors in the layout of the latents."""

    original: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor


@dataclass
class LatentSampling:
    """The state of one request. `conditions` hold a row for each row of the forward pass."""

    request: DrawRequest
    scheduler: Any
    timesteps: torch.Tensor
    latents: torch.Tensor
    expected: torch.Tensor  # in the layout of the latents: a guess at the end, for previews
    conditions: Conditions
    denoiser: Any  # the model's own, with the request's adapters
    classes: int
    kept: Kept | None = None
    step: int = 0
    step_options: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[object, ...]:
        """The denoiser, the size (packed latents do not tell it) and the shapes of a row of everything that goes in."""
        told = tuple((name, tensor.shape[1:]) for name, tensor in sorted(self.conditions.items()))
        return (id(self.denoiser), self.request.width, self.request.height, self.latents.shape[1:], told)

    @property
    def rows(self) -> int:
        """Pictures, times the two classes (without and with the prompt) where guidance compares them."""
        return self.request.count * self.classes

    @property
    def steps(self) -> int:
        """Steps to be made; fewer than asked for when an image is where the drawing begins."""
        return len(self.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep that comes next."""
        return self.timesteps[self.step]


def sample_of(sampling: LatentSampling) -> torch.Tensor:
    """The rows that the denoiser looks at: the latents, once for each class, as wide as the scheduler wants them."""
    sample = torch.cat([sampling.latents] * sampling.classes)
    if flows(sampling.scheduler):
        return sample
    scaled: torch.Tensor = sampling.scheduler.scale_model_input(sample, sampling.timestep)
    return scaled


def compared(prediction: torch.Tensor, sampling: LatentSampling) -> torch.Tensor:
    """The prediction of a request's rows, guided by its own scale where it has two classes."""
    if sampling.classes == 1:
        return prediction
    without, with_prompt = prediction.chunk(2)
    return without + sampling.request.guidance * (with_prompt - without)


def restored(sampling: LatentSampling, latents: torch.Tensor, kept: Kept) -> torch.Tensor:
    """The original, as noisy as the drawing is now, outside the mask."""
    original = kept.original
    if sampling.step < sampling.steps:
        original = noised(
            sampling.scheduler, original, kept.noise, sampling.timesteps[sampling.step : sampling.step + 1]
        )
    return (1 - kept.mask) * original + kept.mask * latents


def noised(scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """`latents` as the scheduler would have them at `timestep`, a tensor of one or of a row for each picture."""
    if flows(scheduler):
        mixed: torch.Tensor = scheduler.scale_noise(latents, timestep, noise)
    else:
        mixed = scheduler.add_noise(latents, noise, timestep)
    return mixed


def flows(scheduler: Any) -> bool:
    """Whether it goes straight from noise to picture."""
    return hasattr(scheduler, "scale_noise")


def first_deviation(scheduler: Any) -> float:
    """How wide the noise is that a scheduler begins with."""
    return float(getattr(scheduler, "init_noise_sigma", 1.0))


def takes_generator(scheduler: Any) -> bool:
    """Whether its steps add noise of their own."""
    return "generator" in inspect.signature(scheduler.step).parameters
