"""What diffusion training asks of a network: a noisy latent at a random time, and the v to predict from it."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers import DDPMScheduler

NOISE: Final = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
_NOISY_SHARE: Final = 0.4  # of the timesteps are drawn from the noisy half
_DROPOUT: Final = 0.1  # of the captions are left empty, for guidance


@dataclass(frozen=True)
class Noised:
    """`image` and `target` are (n, 4, 16, 16), `steps` (n,), `ids` (n, 32) with some captions emptied."""

    image: torch.Tensor
    steps: torch.Tensor
    ids: torch.Tensor
    target: torch.Tensor


class Noising:
    """Makes the examples; `empty` are the token ids of no caption, (1, 32)."""

    def __init__(self, empty: torch.Tensor) -> None:
        self._empty = empty
        self._scheduler: Any = DDPMScheduler(**NOISE)  # type: ignore[no-untyped-call]

    def __call__(self, latents: torch.Tensor, ids: torch.Tensor) -> Noised:
        """A training example of each of the scaled latents (n, 4, 16, 16) and its caption."""
        ids = torch.where(torch.rand(len(ids), 1) < _DROPOUT, self._empty, ids)
        steps = torch.randint(0, 1000, (len(ids),))
        noisy = torch.randint(500, 1000, (len(ids),))
        steps = torch.where(torch.rand(len(ids)) < _NOISY_SHARE, noisy, steps)
        noise = torch.randn_like(latents)
        target = self._scheduler.get_velocity(latents, noise, steps)
        image = self._scheduler.add_noise(latents, noise, steps).contiguous(memory_format=torch.channels_last)
        return Noised(image, steps, ids, target)
