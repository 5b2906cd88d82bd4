"""The diffusion model: UNet and text encoder, trained together to predict v."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel

from tools.train_demo import vae
from tools.train_demo.drawing import examples
from tools.train_demo.noising import Noising
from tools.train_demo.parallel import Budget, Rank, launch
from tools.train_demo.pool import Pool
from tools.train_demo.text import WIDTH
from tools.train_demo.tokenizer import encode, load

CHECKPOINT: Final = "unet.pt"
_SYNC_SECONDS: Final = 12.0
_SAVE_SECONDS: Final = 300.0
_WARM_UP: Final = 0.01
_EMA_DECAY: Final = 0.91  # per average of the ranks


@dataclass(frozen=True)
class Plan:
    """`hours` of wall time, or fewer where `samples` are reached first (0: no such limit)."""

    hours: float
    samples: int = 0
    ranks: int = 2
    batch: int = 16
    rate: float = 1.2e-3


def build() -> Any:
    """The caption reaches the UNet twice: by cross-attention at 8 x 8 and, pooled, with the timestep everywhere."""
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 112),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # the number of heads, by an old misnomer of diffusers
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def train(folder: Path, plan: Plan) -> None:
    """Trains until the plan's budget is spent, resuming from `folder`'s checkpoint if there is one."""
    launch(_train, plan.ranks, folder, plan)


def learning_rate(share: float, peak: float) -> float:
    """Warm-up, flat for 30 % of the budget, then cosine to zero."""
    if share < _WARM_UP:
        return peak * share / _WARM_UP
    return peak * (0.5 + 0.5 * math.cos(math.pi * max(0.0, (share - 0.3) / 0.7)))


@dataclass
class _State:
    """What a checkpoint holds."""

    model: nn.ModuleDict
    average: nn.ModuleDict
    optimiser: torch.optim.Optimizer
    samples: int = 0
    budget: Budget = field(default_factory=lambda: Budget(0))

    def save(self, path: Path) -> None:
        content = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "samples": self.samples,
            "spent": self.budget.spent,
        }
        torch.save(content, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    def load(self, path: Path) -> None:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.samples, self.budget.spent = content["samples"], content["spent"]


class Trainer:
    """One rank's training steps."""

    def __init__(self, folder: Path, plan: Plan, rank: Rank) -> None:
        self.plan = plan
        tokenizer = load(folder)
        self.noising = Noising(encode(tokenizer, [""]))
        autoencoder = vae.load(folder).to(memory_format=torch.channels_last)
        model, average = (_modules(folder) for _ in range(2))
        self.state = _State(model, average, _optimiser(model, plan), budget=Budget(plan.hours * 3600))
        path = folder / CHECKPOINT
        if path.exists():
            self.state.load(path)
        torch.manual_seed(self.state.samples + rank.index)
        self.pool = Pool(examples(3000 + self.state.samples * 2 + rank.index), autoencoder, tokenizer)

    def share(self) -> float:
        """How much of the budget is spent, by time or by samples, whichever is more."""
        by_samples = self.state.samples / self.plan.samples if self.plan.samples else 0.0
        return max(self.state.budget.share(), by_samples)

    def step(self, share: float) -> float:
        """One optimiser step at the learning rate of `share`; returns the loss."""
        latents, ids = self.pool.take(self.plan.batch)
        for group in self.state.optimiser.param_groups:
            group["lr"] = learning_rate(share, self.plan.rate * group["share"])
        loss = self._loss(latents, ids)
        self.state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.state.model.parameters(), 1.0)
        self.state.optimiser.step()
        return float(loss.detach())

    def _loss(self, latents: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        noised = self.noising(latents, ids)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.state.model["text"](noised.ids).last_hidden_state
            predicted = self.state.model["unet"](noised.image, noised.steps, hidden).sample
        return functional.mse_loss(predicted.float(), noised.target)


def _modules(folder: Path) -> nn.ModuleDict:
    torch.manual_seed(0)
    unet = build().to(memory_format=torch.channels_last)
    return nn.ModuleDict({"unet": unet, "text": CLIPTextModel.from_pretrained(folder / "text_encoder")})


def _optimiser(model: nn.ModuleDict, plan: Plan) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": list(model["unet"].parameters()), "share": 1.0},
        {"params": list(model["text"].parameters()), "share": 0.3},  # it can read already
    ]
    return torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)


def _train(rank: Rank, folder: Path, plan: Plan) -> None:
    trainer = Trainer(folder, plan, rank)
    state, saved = trainer.state, time.monotonic()
    while (share := rank.total(trainer.share()) / rank.size) < 1:
        until, losses = time.monotonic() + _SYNC_SECONDS, []
        # At these sizes the CPU's fused attention takes a quarter of a step, the plain one next to nothing.
        with sdpa_kernel(SDPBackend.MATH):
            while time.monotonic() < until:
                losses.append(trainer.step(share))
        rank.average(state.model.parameters(), len(losses))
        state.samples += int(rank.total(len(losses) * plan.batch))
        _move_average(state)
        if rank.leads:
            _log(state, share, losses)
            if time.monotonic() - saved > _SAVE_SECONDS:
                state.save(folder / CHECKPOINT)
                saved = time.monotonic()
    if rank.leads:
        state.save(folder / CHECKPOINT)


def _move_average(state: _State) -> None:
    with torch.no_grad():
        for slow, fast in zip(state.average.parameters(), state.model.parameters(), strict=True):
            slow.lerp_(fast, 1 - _EMA_DECAY)


def _log(state: _State, share: float, losses: list[float]) -> None:
    mean = sum(losses) / len(losses)
    print(f"{state.budget.spent:7.0f} s  {share:6.1%}  {state.samples:8d} samples  loss {mean:.4f}", flush=True)
