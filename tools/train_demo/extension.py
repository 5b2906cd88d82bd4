"""Training what is added to the finished model: its weights stand still, a few of one's own learn beside them."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tools.train_demo.export import load
from tools.train_demo.noising import Noised, Noising
from tools.train_demo.styles import Pixels
from tools.train_demo.tokenizer import encode
from tools.train_demo.vae import as_input

_BATCH: Final = 16
_REUSE: Final = 4  # times that each picture is seen, with other noise
_ENCODED: Final = 64  # pictures at once
_WARM_UP: Final = 0.03
_TOLD_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Lesson:
    """A picture (64, 64, 3), its caption, and the guide beside it (64, 64, 3) where there is one."""

    caption: str
    pixels: Pixels
    guide: Pixels | None = None


@dataclass(frozen=True)
class Plan:
    """How many samples, at most at which learning rate."""

    samples: int
    rate: float


class Base:
    """The exported model, in fp32, with nothing left to train."""

    def __init__(self, target: Path) -> None:
        self.pipeline: Any = load(target)
        for part in (self.pipeline.unet, self.pipeline.text_encoder, self.pipeline.vae):
            part.requires_grad_(False)
            part.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def latents(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> torch.Tensor:
        """Pictures (n, 64, 64, 3) as scaled latents (n, 4, 16, 16)."""
        vae = self.pipeline.vae
        with torch.autocast("cpu", torch.bfloat16):
            latents: torch.Tensor = vae.encode(as_input(torch.from_numpy(pixels))).latent_dist.mode().float()
        scaled: torch.Tensor = latents * vae.config["scaling_factor"]
        return scaled

    def ids(self, captions: list[str]) -> torch.Tensor:
        """Token ids (n, 32)."""
        ids: torch.Tensor = encode(self.pipeline.tokenizer, captions)
        return ids

    @torch.no_grad()
    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """What the UNet reads of captions, (n, 32, 128)."""
        hidden: torch.Tensor = self.pipeline.text_encoder(ids).last_hidden_state
        return hidden


# Predicts v from what is noisy, the captions read, and the guides (n, 3, 64, 64), 0 to 1; no rows without guides.
Predict = Callable[[Noised, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Lessons:
    latents: torch.Tensor
    ids: torch.Tensor
    guides: torch.Tensor

    def take(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A random batch: latents, token ids, guides."""
        chosen = torch.randint(0, len(self.ids), (count,))
        guides = self.guides[chosen] if len(self.guides) else self.guides
        return self.latents[chosen], self.ids[chosen], guides.permute(0, 3, 1, 2).float() / 255


def teach(base: Base, lessons: Iterator[Lesson], plan: Plan, own: Iterable[nn.Parameter], predict: Predict) -> None:
    """Trains the parameters of one's `own`; the same lessons, plan and base give the same weights."""
    parameters, noising = list(own), Noising(base.ids([""]))
    optimiser = torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    learnt, count = _drawn(base, lessons, max(_BATCH, plan.samples // _REUSE)), max(1, plan.samples // _BATCH)
    told, losses = time.monotonic(), list[float]()
    for number in range(count):
        optimiser.param_groups[0]["lr"] = plan.rate * _share_of_rate(number / count)
        latents, ids, guides = learnt.take(_BATCH)
        noised = noising(latents, ids)
        # At these sizes the CPU's fused attention takes a quarter of a step, the plain one next to nothing.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            predicted = predict(noised, base.hidden(noised.ids), guides)
        loss = functional.mse_loss(predicted.float(), noised.target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if time.monotonic() - told > _TOLD_SECONDS:
            click.echo(f"{number * _BATCH:6d} of {plan.samples} samples  loss {sum(losses) / len(losses):.4f}")
            told, losses = time.monotonic(), []
    click.echo(f"{time.process_time():.0f} s of one core's time")


def _drawn(base: Base, lessons: Iterator[Lesson], count: int) -> _Lessons:
    """`count` lessons, encoded."""
    latents, ids, guides = [], [], []
    for start in range(0, count, _ENCODED):
        batch = list(itertools.islice(lessons, min(_ENCODED, count - start)))
        latents.append(base.latents(np.stack([lesson.pixels for lesson in batch])))
        ids.append(base.ids([lesson.caption for lesson in batch]))
        guides += [lesson.guide for lesson in batch if lesson.guide is not None]
    guide = torch.from_numpy(np.stack(guides)) if guides else torch.zeros(0, 1, 1, 3, dtype=torch.uint8)
    return _Lessons(torch.cat(latents), torch.cat(ids), guide)


def _share_of_rate(share: float) -> float:
    """A short warm-up, then cosine to zero."""
    return min(1.0, share / _WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * share))
