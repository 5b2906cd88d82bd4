"""Stable Diffusion XL: two CLIP encoders, a UNet that is also told the pooled prompt and the picture's size.

Sources: `StableDiffusionXLPipeline` and its image-to-image and inpaint siblings of diffusers 0.42; Podell et al. 2023
(arXiv:2307.01952), section 2.2 for the sizes that the UNet is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionXLPipeline

from services.inference.engine.controls import Controls
from services.inference.engine.family_latent import LatentFamily
from services.inference.engine.loading import widen_vae
from services.inference.engine.manifest import Model
from services.inference.engine.prompt_cache import Conditions
from services.inference.engine.request import DrawRequest
from services.inference.engine.schedulers import build
from services.inference.engine.speed import Tensors


class StableDiffusionXL(LatentFamily):
    """A loaded SDXL model or a fine-tune of it."""

    pipeline_class = StableDiffusionXLPipeline
    options: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}
    part = "unet"

    def __init__(self, model: Model, pipeline: Any, device: str) -> None:
        widen_vae(pipeline)
        super().__init__(model, pipeline, device)
        self._controls = Controls(model, pipeline.unet, device)

    def _schedule(self, request: DrawRequest) -> Any:
        return build(request.scheduler, self._pipe.scheduler.config, request.steps, self.device)

    def _skipped(self, request: DrawRequest) -> int:
        return request.steps - int(request.steps * request.strength)

    def _read(self, request: DrawRequest, pipeline: Any) -> Conditions:
        """An empty negative prompt is none: many models of this family were trained with zeros there."""
        guided = self._guided(request)
        prompt, negative, pooled, negative_pooled = pipeline.encode_prompt(
            request.prompt,
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=request.negative_prompt or None,
        )
        return {
            "encoder_hidden_states": torch.cat([negative, prompt]) if guided else prompt,
            "text_embeds": torch.cat([negative_pooled, pooled]) if guided else pooled,
        }

    def _told(self, request: DrawRequest) -> Conditions:
        """The size of the original, where it was cropped, and the size that is wanted: six numbers."""
        size = (request.height, request.width)
        sizes = torch.tensor([[*size, 0, 0, *size]], device=self.device, dtype=self._dtype)
        return {"time_ids": sizes, **self._controls.told(request)}

    def _forward(self, denoiser: Any, inputs: Tensors) -> torch.Tensor:
        sample, timestep = inputs["sample"], inputs["timestep"]
        words = {
            "encoder_hidden_states": inputs["encoder_hidden_states"],
            "added_cond_kwargs": {"text_embeds": inputs["text_embeds"], "time_ids": inputs["time_ids"]},
            "return_dict": False,
        }

        def control(net: Any, image: torch.Tensor, scale: torch.Tensor) -> Any:
            return net(sample, timestep, controlnet_cond=image, conditioning_scale=scale, **words)

        told = self._controls.residuals(inputs, control)
        output: torch.Tensor = denoiser(sample, timestep, **words, **told)[0]
        return output
