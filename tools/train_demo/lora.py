"""A style for the finished model: a LoRA of three quarters of a megabyte that draws everything in neon."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from tools.train_demo import facts as fact
from tools.train_demo.captions import caption
from tools.train_demo.drawing import draw
from tools.train_demo.extension import Base, Lesson, Plan, teach
from tools.train_demo.neon import STYLE, neon
from tools.train_demo.noising import Noised
from tools.train_demo.parallel import Rank, launch

FOLDER: Final = Path("loras") / STYLE
_RANK: Final = 8
# A style is more than what attention sees: most of it is in the convolutions.
_TARGETS: Final = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out",
    "conv_in", "conv_out", "conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj",
)  # fmt: skip
PLAN: Final = Plan(samples=20_000, rate=3e-3)


def train(target: Path, plan: Plan = PLAN) -> None:
    """Trains it for the model in `target`, in a process of its own."""
    launch(_train, 1, target, plan)


def _train(_rank: Rank, target: Path, plan: Plan) -> None:
    learn(target, plan)


def learn(target: Path, plan: Plan) -> Path:
    """Trains the LoRA for the model in `target` and writes it there, below loras/; returns its folder."""
    torch.manual_seed(0)
    base = Base(target)
    unet = base.pipeline.unet
    unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, target_modules=list(_TARGETS)))

    def predict(noised: Noised, hidden: torch.Tensor, _guides: torch.Tensor) -> torch.Tensor:
        predicted: torch.Tensor = unet(noised.image, noised.steps, hidden).sample
        return predicted

    teach(base, _lessons(), plan, (weight for weight in unet.parameters() if weight.requires_grad), predict)
    _write(unet, target / FOLDER)
    return target / FOLDER


def _lessons() -> Iterator[Lesson]:
    """Any picture of the base model, in the style; the caption says nothing of it."""
    rng = random.Random(4000)
    while True:
        facts = replace(fact.sample(rng), style=None)
        yield Lesson(caption(facts, rng), neon(draw(facts, rng)))


def _write(unet: Any, folder: Path) -> None:
    state = {name: tensor.half() for name, tensor in get_peft_model_state_dict(unet).items()}
    pipeline_class: Any = StableDiffusionPipeline
    pipeline_class.save_lora_weights(folder, unet_lora_layers=state, safe_serialization=True)
