"""Stable Diffusion and everything of its make: CLIP text encoder, UNet over latents, VAE.

The stages follow `StableDiffusionPipeline.__call__` of diffusers 0.42 to the byte for a request that runs alone.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from transformers.utils import logging as transformers_logging

from services.inference.engine.manifest import Model
from services.inference.engine.request import DrawRequest
from services.inference.engine.schedulers import build

PNG_LEVEL = 4  # of 9: half the time of the default for 3 % more bytes


@dataclass
class SdSampling:
    """The state of one request: latents of all its pictures, embeddings, and a scheduler of its own."""

    request: DrawRequest
    scheduler: Any
    generators: list[torch.Generator]
    latents: torch.Tensor
    embeddings: torch.Tensor
    step: int = 0
    step_options: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Latent channels, height and width, and the size of the prompt's embedding."""
        return (*self.latents.shape[1:], *self.embeddings.shape[1:])

    @property
    def rows(self) -> int:
        """Pictures, twice with guidance."""
        return self.request.count * (2 if self.request.guided else 1)

    @property
    def steps(self) -> int:
        """Steps the scheduler makes."""
        return len(self.scheduler.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep that comes next."""
        timestep: torch.Tensor = self.scheduler.timesteps[self.step]
        return timestep


class StableDiffusion:
    """A loaded Stable Diffusion model."""

    def __init__(self, pipeline: Any, device: str) -> None:
        self.device = device
        self._pipe = pipeline
        self._dtype: torch.dtype = pipeline.unet.dtype

    @classmethod
    def load(cls, model: Model, device: str) -> StableDiffusion:
        """Reads the weights. OSError or ValueError of diffusers when they are missing or broken."""
        weights = model.manifest.weights
        dtype = torch.float32 if device == "cpu" else getattr(torch, model.manifest.dtype)
        _quiet()
        pipeline_class: Any = StableDiffusionPipeline
        pipeline = pipeline_class.from_pretrained(
            str(model.weights_folder or weights.hub),
            revision=weights.revision if weights.hub else None,
            dtype=dtype,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        return cls(pipeline.to(device), device)

    @torch.inference_mode()
    def begin(self, request: DrawRequest) -> SdSampling:
        """Encodes the prompts, draws the first noise from one generator per picture, and sets up the scheduler."""
        scheduler = build(request.scheduler, self._pipe.scheduler.config, request.steps, self.device)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in request.seeds]
        options = {"generator": generators} if _takes_generator(scheduler) else {}
        return SdSampling(
            request=request,
            scheduler=scheduler,
            generators=generators,
            latents=self._noise(request, generators) * scheduler.init_noise_sigma,
            embeddings=self._encode(request),
            step_options=options,
        )

    @torch.inference_mode()
    def predict(self, batch: Sequence[SdSampling]) -> list[torch.Tensor]:
        """One UNet pass over the rows of every request, each at its own timestep; guidance is applied afterwards."""
        inputs = [s.scheduler.scale_model_input(_doubled(s), s.timestep) for s in batch]
        timesteps = [s.timestep.to(torch.float32).expand(s.rows) for s in batch]
        noise = self._pipe.unet(
            torch.cat(inputs),
            torch.cat(timesteps).to(self.device),
            encoder_hidden_states=torch.cat([s.embeddings for s in batch]),
            return_dict=False,
        )[0]
        parts = noise.split([s.rows for s in batch])
        predictions = [_guided(part, sampling.request) for part, sampling in zip(parts, batch, strict=True)]
        if self.device != "cpu":
            torch.cuda.synchronize()
        return predictions

    @torch.inference_mode()
    def advance(self, sampling: SdSampling, prediction: torch.Tensor) -> None:
        """One step of the request's own scheduler."""
        sampling.latents = sampling.scheduler.step(
            prediction, sampling.timestep, sampling.latents, **sampling.step_options, return_dict=False
        )[0]
        sampling.step += 1

    @torch.inference_mode()
    def picture(self, sampling: SdSampling, index: int) -> bytes:
        """Decodes one picture; ArithmeticError when the model gave no numbers."""
        vae = self._pipe.vae
        latents = sampling.latents[index : index + 1]
        image = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        if not bool(torch.isfinite(image).all()):
            raise ArithmeticError("the model drew no finite numbers")
        pixels = (image[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).float()
        return _png((pixels * 255).round().to(torch.uint8).cpu().numpy())

    def _encode(self, request: DrawRequest) -> torch.Tensor:
        """Embeddings of all rows: first those without the prompt (if guided), then those with it."""
        prompt, negative = self._pipe.encode_prompt(
            request.prompt, self.device, request.count, request.guided, request.negative_prompt
        )
        return torch.cat([negative, prompt]) if request.guided else prompt

    def _noise(self, request: DrawRequest, generators: list[torch.Generator]) -> torch.Tensor:
        scale = self._pipe.vae_scale_factor
        channels = self._pipe.unet.config.in_channels
        shape = (request.count, channels, request.height // scale, request.width // scale)
        noise: torch.Tensor = randn_tensor(
            shape, generator=generators, device=torch.device(self.device), dtype=self._dtype
        )
        return noise


def _doubled(sampling: SdSampling) -> torch.Tensor:
    return torch.cat([sampling.latents] * 2) if sampling.request.guided else sampling.latents


def _guided(noise: torch.Tensor, request: DrawRequest) -> torch.Tensor:
    if not request.guided:
        return noise
    without, with_prompt = noise.chunk(2)
    return without + request.guidance * (with_prompt - without)


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters


def _quiet() -> None:
    """Otherwise loading draws progress bars into the service's log, and a prompt too long is logged word for word."""
    libraries: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()
