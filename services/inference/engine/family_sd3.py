"""Stable Diffusion 3 and 3.5: two CLIP encoders and, if it is there, a T5; joint attention; flow matching.

Sources: `StableDiffusion3Pipeline` and its image-to-image and inpaint siblings of diffusers 0.42; Esser et al. 2024
(arXiv:2403.03206).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from services.inference.engine.family_latent import LatentFamily
from services.inference.engine.flow import build_flow, destination, resolution_shift, skipped_steps
from services.inference.engine.latent_sampling import LatentSampling
from services.inference.engine.prompt_cache import Conditions
from services.inference.engine.request import DrawRequest
from services.inference.engine.speed import Tensors

PROMPT_TOKENS = 256  # that T5 reads, this pipeline's own default
MAX_SHIFT = 1.16  # this pipeline's own default where the scheduler's configuration says nothing


class StableDiffusion3(LatentFamily):
    """A loaded SD 3 or 3.5 model. Without a T5 encoder in its folder it reads with the two CLIP encoders alone."""

    pipeline_class = StableDiffusion3Pipeline

    def _schedule(self, request: DrawRequest) -> Any:
        patch = self._vae.scale * self._pipe.transformer.config.patch_size
        tokens = (request.height // patch) * (request.width // patch)
        config = self._pipe.scheduler.config
        timing = {"mu": resolution_shift(config, tokens, MAX_SHIFT)} if config.get("use_dynamic_shifting") else {}
        return build_flow(request.scheduler, config, request.steps, self.device, timing)

    def _skipped(self, request: DrawRequest) -> int:
        return skipped_steps(request)

    def _read(self, request: DrawRequest, pipeline: Any) -> Conditions:
        guided = self._guided(request)
        prompt, negative, pooled, negative_pooled = pipeline.encode_prompt(
            request.prompt,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=request.negative_prompt,
            max_sequence_length=self._model.manifest.prompt_tokens or PROMPT_TOKENS,
        )
        return {
            "encoder_hidden_states": torch.cat([negative, prompt]) if guided else prompt,
            "pooled_projections": torch.cat([negative_pooled, pooled]) if guided else pooled,
        }

    def _expected(self, sampling: LatentSampling, prediction: torch.Tensor, output: Any) -> torch.Tensor:
        return destination(sampling.scheduler, prediction, output[0])

    def _forward(self, denoiser: Any, inputs: Tensors) -> torch.Tensor:
        output: torch.Tensor = denoiser(
            hidden_states=inputs["sample"],
            timestep=inputs["timestep"],
            encoder_hidden_states=inputs["encoder_hidden_states"],
            pooled_projections=inputs["pooled_projections"],
            return_dict=False,
        )[0]
        return output
