"""A pool of encoded examples, refreshed all the time, each used a few times with other noise.

Drawing and encoding a picture costs a fifth of a training step; seeing it `_REUSE` times, at other noise levels,
teaches nearly as much.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch

from tools.train_demo.drawing import Example
from tools.train_demo.tokenizer import LENGTH, encode
from tools.train_demo.vae import Vae, as_input

_REUSE: Final = 4
_FILL: Final = 16


class Pool:
    """Latents (n, 4, 16, 16), scaled, with the token ids of their captions (n, 32)."""

    def __init__(self, stream: Iterator[Example], vae: Vae, tokenizer: Any, size: int = 40_000) -> None:
        self._stream, self._vae, self._tokenizer = stream, vae, tokenizer
        self._latents = torch.zeros(size, 4, 16, 16)
        self._ids = torch.zeros(size, LENGTH, dtype=torch.long)
        self._filled = self._next = 0
        self._debt = 0.0
        while self._filled < 2048:
            self._refresh()

    def take(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A random batch; adds one fresh example for each `_REUSE` taken."""
        self._debt += count / _REUSE
        while self._debt >= _FILL:
            self._refresh()
            self._debt -= _FILL
        chosen = torch.randint(0, self._filled, (count,))
        return self._latents[chosen], self._ids[chosen]

    def _refresh(self) -> None:
        batch = list(itertools.islice(self._stream, _FILL))
        pixels = as_input(torch.from_numpy(np.stack([e.pixels for e in batch])))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            latents = self._vae.encode(pixels).latent_dist.mode().float()
        places = torch.arange(self._next, self._next + _FILL) % len(self._latents)
        self._latents[places] = latents * self._vae.config["scaling_factor"]
        self._ids[places] = encode(self._tokenizer, [e.caption for e in batch])
        self._next = (self._next + _FILL) % len(self._latents)
        self._filled = min(len(self._latents), self._filled + _FILL)
