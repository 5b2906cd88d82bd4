"""The autoencoder: 64 x 64 pixels to 16 x 16 latents of 4 channels and back."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from tools.train_demo.drawing import Example, examples
from tools.train_demo.parallel import Budget, Rank, launch

Vae = Any  # diffusers.AutoencoderKL, which carries no types
_BATCH: Final = 16
_RATE: Final = 2e-3
_KL_WEIGHT: Final = 5e-4
_INEXACT: Final = 0.15  # the most noise beside latents whose standard deviation is 1, where the decoder is refined
_SYNC_SECONDS: Final = 3.0


def build() -> Vae:
    """An autoencoder that starts as box reduction and bilinear enlargement, and learns the rest."""
    vae: Vae = AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=64,
    )
    with torch.no_grad():
        _start_as_identity(vae)
    return vae


def train(folder: Path, minutes: float, ranks: int) -> None:
    """Trains for `minutes` and writes the autoencoder to `folder`."""
    launch(_train, ranks, folder, minutes)


def refine(folder: Path, minutes: float, ranks: int) -> None:
    """Trains the decoder of `folder`'s autoencoder further, on latents as inexact as a diffusion model's.

    The encoder stands still, and so do the latents: a UNet trained on them can be had before or after.
    """
    launch(_refine, ranks, folder, minutes)


def _train(rank: Rank, folder: Path, minutes: float) -> None:
    torch.manual_seed(0)
    vae = build().to(memory_format=torch.channels_last)
    _learn(rank, list(vae.parameters()), minutes, examples(1000 + rank.index), lambda pixels: _both_ways(vae, pixels))
    if rank.leads:
        vae.register_to_config(scaling_factor=_scaling(vae))
        _write(vae, folder)


def _refine(rank: Rank, folder: Path, minutes: float) -> None:
    torch.manual_seed(rank.index)
    vae = load(folder).to(memory_format=torch.channels_last)
    vae.requires_grad_(False)
    own = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    for parameter in own:
        parameter.requires_grad_(True)
    _learn(rank, own, minutes, examples(2000 + rank.index), lambda pixels: _back(vae, pixels))
    if rank.leads:
        _write(vae, folder)


def _learn(
    rank: Rank,
    own: list[nn.Parameter],
    minutes: float,
    stream: Iterator[Example],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Trains the parameters of one's `own` for `minutes`, annealed at their end."""
    optimiser = torch.optim.AdamW(own, lr=_RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    budget, steps, started = Budget(minutes * 60), 0, time.monotonic()
    while (share := rank.total(budget.share()) / rank.size) < 1:
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, share / 0.02) * (0.5 + 0.5 * math.cos(math.pi * share))
        until, made = time.monotonic() + _SYNC_SECONDS, 0
        while time.monotonic() < until:
            pixels = as_input(torch.from_numpy(np.stack([e.pixels for e in itertools.islice(stream, _BATCH)])))
            loss = _step(optimiser, own, loss_of(pixels))
            made += 1
        rank.average(own, made)
        steps += made
        if rank.leads:
            print(f"{time.monotonic() - started:6.0f} s  {steps:6d} steps  loss {loss:.4f}", flush=True)


def _write(vae: Vae, folder: Path) -> None:
    vae.save_pretrained(folder / "vae")
    print(f"psnr {psnr(vae):.2f} dB  scaling {vae.config['scaling_factor']:.3f}", flush=True)


def as_input(pixels: torch.Tensor) -> torch.Tensor:
    """Bytes (n, height, width, 3) as the model's input (n, 3, height, width), -1 to 1."""
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def psnr(vae: Vae, count: int = 256) -> float:
    """Peak signal-to-noise ratio in dB over fresh pictures."""
    pixels = as_input(torch.from_numpy(np.stack([e.pixels for e in itertools.islice(examples(77), count)])))
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / functional.mse_loss(decoded, pixels)))


def _both_ways(vae: Vae, pixels: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
    divergence: torch.Tensor = posterior.kl().mean() / posterior.mean[0].numel()
    return _unlikeness(decoded, pixels) + _KL_WEIGHT * divergence


def _back(vae: Vae, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(pixels).latent_dist.mode().float()
    spread = torch.rand(len(latents), 1, 1, 1) * _INEXACT / vae.config["scaling_factor"]
    with torch.autocast("cpu", torch.bfloat16):
        decoded = vae.decode(latents + spread * torch.randn_like(latents)).sample.float()
    return _unlikeness(decoded, pixels)


def _unlikeness(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    error = decoded - pixels
    edges = error.diff(dim=2).square().mean() + error.diff(dim=3).square().mean()
    unlikeness: torch.Tensor = error.abs().mean() + error.square().mean() + edges
    return unlikeness


def _step(optimiser: torch.optim.Optimizer, own: list[nn.Parameter], loss: torch.Tensor) -> float:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(own, 1.0)
    optimiser.step()
    return float(loss.detach())


def load(folder: Path) -> Vae:
    """The autoencoder that `train` wrote."""
    return AutoencoderKL.from_pretrained(folder / "vae")  # type: ignore[no-untyped-call]


def _scaling(vae: Vae) -> float:
    """What makes the latents' standard deviation 1."""
    pixels = as_input(torch.from_numpy(np.stack([e.pixels for e in itertools.islice(examples(78), 512)])))
    with torch.no_grad():
        return round(float(1 / vae.encode(pixels).latent_dist.sample().std()), 4)


def _start_as_identity(vae: Vae) -> None:
    """Channels 0 to 2 carry x, 3 to 5 carry -x: silu(x) - silu(-x) = x passes the last nonlinearity unharmed."""
    box = torch.zeros(3, 3)
    box[:2, :2] = 0.25
    blur = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    for name, module in vae.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith("downsamplers.0.conv"):
            _carry(module, box)
        elif name.endswith("upsamplers.0.conv"):
            _carry(module, blur)
        elif name.endswith("conv_shortcut"):
            _carry(module, torch.ones(1, 1))
    for coder in (vae.encoder, vae.decoder):
        _enter_pairs(coder.conv_in, centre)
        _leave_pairs(coder, centre)
    nn.init.eye_(vae.quant_conv.weight[:, :, 0, 0])
    nn.init.eye_(vae.post_quant_conv.weight[:, :, 0, 0])
    vae.encoder.conv_out.bias[4:] = -5.0


# A constant this large in two channels makes group normalisation nearly linear for the others.
_ANCHOR: Final = 3.0


def _carry(conv: nn.Conv2d, kernel: torch.Tensor) -> None:
    conv.weight[:8] = 0
    conv.bias[:8] = 0  # type: ignore[index]
    for channel in range(8):
        conv.weight[channel, channel] = kernel / kernel.sum()


def _enter_pairs(conv: nn.Conv2d, centre: torch.Tensor) -> None:
    conv.weight[:8] = 0
    conv.bias[:8] = torch.tensor([0.0] * 6 + [_ANCHOR, -_ANCHOR])  # type: ignore[index]
    for channel in range(3):
        conv.weight[channel, channel] = centre
        conv.weight[channel + 3, channel] = -centre


def _leave_pairs(coder: nn.Module, centre: torch.Tensor) -> None:
    conv: nn.Conv2d = coder.conv_out  # type: ignore[assignment]
    scale = math.sqrt(2 * _ANCHOR**2 / conv.in_channels + 0.15)
    conv.weight[:3] = 0
    for channel in range(3):
        conv.weight[channel, channel] = centre * scale
        conv.weight[channel, channel + 3] = -centre * scale
