"""Between pictures and latents: the VAE of a pipeline, its scaling, and tiles for pictures that are too large at once.

The arithmetic is that of the pipelines of diffusers 0.42; which constants a VAE has is written in its configuration.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image


class Autoencoder:
    """The VAE of one model, `scale` pixels to a latent each way. Encoding and decoding may happen in two threads."""

    def __init__(self, vae: Any, device: str, patch: int = 1, tiled_above: int = 0) -> None:
        """`patch`: latents each way that belong together. `tiled_above`: a side in pixels; 0 never tiles."""
        self.scale = 2 ** (len(vae.config.block_out_channels) - 1)
        self._vae = vae
        self._tiling = copy.copy(vae)  # the same weights; works in overlapping tiles of the VAE's own size
        self._tiling.enable_tiling()
        self._device = device
        self._tiled_above = tiled_above**2 or math.inf
        factor = patch * self.scale
        self._pictures = VaeImageProcessor(vae_scale_factor=factor)
        self._masks = VaeImageProcessor(
            vae_scale_factor=factor, do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )

    def encode(self, picture: Image.Image, size: tuple[int, int], generators: Sequence[torch.Generator]) -> Any:
        """Latents of `picture` at `size` (width, height): one sample of the VAE's distribution for each generator."""
        width, height = size
        pixels = self._pictures.preprocess(picture, height=height, width=width)
        pixels = pixels.to(device=self._device, dtype=self._vae.dtype)
        distribution = self._for(width * height).encode(pixels).latent_dist
        return torch.cat([self._scaled(distribution.sample(generator)) for generator in generators])

    def mask(self, mask: Image.Image, size: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
        """The mask in latent resolution, (1, 1, height, width) of zeros (keep) and ones (draw anew)."""
        width, height = size
        pixels = self._masks.preprocess(mask, height=height, width=width)
        return torch.nn.functional.interpolate(pixels, size=like.shape[-2:]).to(like)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (batch, 3, height, width) from -1 to 1."""
        pixels = latents.shape[-2] * latents.shape[-1] * self.scale**2
        wide = self._unscaled(latents).to(self._device, self._vae.dtype)
        decoded: torch.Tensor = self._for(pixels).decode(wide, return_dict=False)[0]
        return decoded

    def noise(self, shape: tuple[int, ...], generators: Sequence[torch.Generator], like: torch.Tensor) -> torch.Tensor:
        """Normal noise on the device and in the dtype of `like`; each row is drawn from its own generator."""
        drawn: torch.Tensor = randn_tensor(shape, generator=list(generators), device=like.device, dtype=like.dtype)
        return drawn

    def _for(self, pixels: int) -> Any:
        """The VAE for so large a picture."""
        return self._vae if pixels <= self._tiled_above else self._tiling

    def _scaled(self, latents: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics(latents)
        return (latents - mean) * float(self._vae.config.scaling_factor) / deviation

    def _unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics(latents)
        return latents * deviation / float(self._vae.config.scaling_factor) + mean

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the VAE's latents: of each channel, or one `shift_factor` for all and no deviation."""
        config = self._vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is None or deviation is None:
            mean, deviation = [config.get("shift_factor") or 0.0], [1.0]
        first, second = (torch.tensor(values).view(1, -1, 1, 1).to(like) for values in (mean, deviation))
        return first, second
