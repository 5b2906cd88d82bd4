"""Stable Diffusion and everything of its make: one CLIP text encoder, a UNet over latents, ControlNets beside it.

The stages follow `StableDiffusionPipeline.__call__` of diffusers 0.42 and its image-to-image, inpaint and ControlNet
siblings, to the byte for a request that runs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline

from services.inference.engine.controls import Controls
from services.inference.engine.family_latent import LatentFamily
from services.inference.engine.manifest import Model
from services.inference.engine.prompt_cache import Conditions
from services.inference.engine.request import DrawRequest
from services.inference.engine.schedulers import build
from services.inference.engine.speed import Tensors

WITHOUT_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


class StableDiffusion(LatentFamily):
    """A loaded Stable Diffusion model, without its own checker of pictures: judging them is moderation's."""

    pipeline_class = StableDiffusionPipeline
    options: ClassVar[Mapping[str, Any]] = WITHOUT_CHECKER
    part = "unet"

    def __init__(self, model: Model, pipeline: Any, device: str) -> None:
        super().__init__(model, pipeline, device)
        channels = pipeline.unet.config.in_channels
        if channels != pipeline.vae.config.latent_channels:
            raise ValueError(
                f"its UNet takes {channels} channels, so it can only inpaint; serve the model it came from"
            )
        self._controls = Controls(model, pipeline.unet, device)

    def _schedule(self, request: DrawRequest) -> Any:
        return build(request.scheduler, self._pipe.scheduler.config, request.steps, self.device)

    def _skipped(self, request: DrawRequest) -> int:
        return request.steps - int(request.steps * request.strength)

    def _read(self, request: DrawRequest, pipeline: Any) -> Conditions:
        guided = self._guided(request)
        prompt, negative = pipeline.encode_prompt(request.prompt, self.device, 1, guided, request.negative_prompt)
        return {"encoder_hidden_states": torch.cat([negative, prompt]) if guided else prompt}

    def _told(self, request: DrawRequest) -> Conditions:
        return self._controls.told(request)

    def _forward(self, denoiser: Any, inputs: Tensors) -> torch.Tensor:
        sample, timestep = inputs["sample"], inputs["timestep"]
        words = {"encoder_hidden_states": inputs["encoder_hidden_states"], "return_dict": False}

        def control(net: Any, image: torch.Tensor, scale: torch.Tensor) -> Any:
            return net(sample, timestep, controlnet_cond=image, conditioning_scale=scale, **words)

        told = self._controls.residuals(inputs, control)
        output: torch.Tensor = denoiser(sample, timestep, **words, **told)[0]
        return output
