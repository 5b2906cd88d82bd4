"""FLUX.1: a pooled CLIP prompt and a T5 prompt; latents packed two by two into tokens; guidance as an embedding.

Guidance costs no second pass here: FLUX.1-dev is told its scale, FLUX.1-schnell knows none. Neither reads a negative
prompt. Sources: `FluxPipeline` and its image-to-image and inpaint siblings of diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline

from services.inference.engine.family_latent import LatentFamily
from services.inference.engine.flow import build_flow, destination, resolution_shift, skipped_steps
from services.inference.engine.latent_sampling import LatentSampling
from services.inference.engine.prompt_cache import Conditions
from services.inference.engine.request import DrawRequest
from services.inference.engine.speed import Tensors

MAX_SHIFT = 1.15  # this pipeline's own default where the scheduler's configuration says nothing
PATCH = 2  # latents are packed PATCH x PATCH into a token
TIMESTEPS = 1000  # the transformer counts time from 0 to 1
PROMPT_TOKENS = 512  # the most that FluxPipeline reads; FLUX.1-schnell was trained with 256


class Flux(LatentFamily):
    """A loaded FLUX.1 model."""

    pipeline_class = FluxPipeline
    patch = PATCH

    def _schedule(self, request: DrawRequest) -> Any:
        rows, columns = self._tokens(request)
        config = self._pipe.scheduler.config
        timing = {
            "sigmas": np.linspace(1.0, 1 / request.steps, request.steps),
            "mu": resolution_shift(config, rows * columns, MAX_SHIFT),
        }
        return build_flow(request.scheduler, config, request.steps, self.device, timing)

    def _skipped(self, request: DrawRequest) -> int:
        return skipped_steps(request)

    def _guided(self, request: DrawRequest) -> bool:
        return False

    def _read(self, request: DrawRequest, pipeline: Any) -> Conditions:
        prompt, pooled, _ = pipeline.encode_prompt(
            request.prompt,
            None,
            device=self.device,
            max_sequence_length=self._model.manifest.prompt_tokens or PROMPT_TOKENS,
        )
        return {"encoder_hidden_states": prompt, "pooled_projections": pooled}

    def _told(self, request: DrawRequest) -> Conditions:
        if not self._pipe.transformer.config.guidance_embeds:
            return {}
        return {"guidance": torch.full([1], request.guidance, device=self.device, dtype=torch.float32)}

    def _expected(self, sampling: LatentSampling, prediction: torch.Tensor, output: Any) -> torch.Tensor:
        return destination(sampling.scheduler, prediction, output[0])

    def _inputs(self, batch: Sequence[LatentSampling], conditions: Conditions) -> dict[str, torch.Tensor]:
        inputs = super()._inputs(batch, conditions)
        words = torch.zeros(inputs["encoder_hidden_states"].shape[1], 3, device=self.device, dtype=self._dtype)
        time = inputs["timestep"].to(self._dtype) / TIMESTEPS
        return {**inputs, "timestep": time, "txt_ids": words, "img_ids": self._positions(batch[0].request)}

    def _forward(self, denoiser: Any, inputs: Tensors) -> torch.Tensor:
        output: torch.Tensor = denoiser(
            hidden_states=inputs["sample"],
            timestep=inputs["timestep"],
            guidance=inputs.get("guidance"),
            encoder_hidden_states=inputs["encoder_hidden_states"],
            pooled_projections=inputs["pooled_projections"],
            txt_ids=inputs["txt_ids"],
            img_ids=inputs["img_ids"],
            return_dict=False,
        )[0]
        return output

    def _tokens(self, request: DrawRequest) -> tuple[int, int]:
        """Rows and columns of tokens."""
        side = PATCH * self._vae.scale
        return request.height // side, request.width // side

    def _positions(self, request: DrawRequest) -> torch.Tensor:
        """Of each token: zero, its row, its column."""
        rows, columns = self._tokens(request)
        positions = torch.zeros(rows, columns, 3, device=self.device, dtype=self._dtype)
        positions[..., 1] = torch.arange(rows, device=self.device)[:, None]
        positions[..., 2] = torch.arange(columns, device=self.device)[None, :]
        return positions.reshape(rows * columns, 3)

    def _pack(self, latents: torch.Tensor) -> torch.Tensor:
        pictures, channels, height, width = latents.shape
        blocks = latents.reshape(pictures, channels, height // PATCH, PATCH, width // PATCH, PATCH)
        tokens = blocks.permute(0, 2, 4, 1, 3, 5)
        return tokens.reshape(pictures, (height // PATCH) * (width // PATCH), channels * PATCH * PATCH)

    def _unpack(self, latents: torch.Tensor, request: DrawRequest) -> torch.Tensor:
        rows, columns = self._tokens(request)
        pictures, _, width = latents.shape
        channels = width // (PATCH * PATCH)
        blocks = latents.reshape(pictures, rows, columns, channels, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
        return blocks.reshape(pictures, channels, rows * PATCH, columns * PATCH)
