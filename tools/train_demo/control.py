"""A ControlNet for the finished model: it draws what the caption says along the edges of a guide."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import ControlNetModel

from tools.train_demo.drawing import examples
from tools.train_demo.edges import guide
from tools.train_demo.extension import Base, Lesson, Plan, teach
from tools.train_demo.noising import Noised
from tools.train_demo.parallel import Rank, launch

FOLDER: Final = Path("controls") / "edges"
PLAN: Final = Plan(samples=40_000, rate=1.5e-3)
# What the half of the UNet that reads has in common with its ControlNet.
_SHARED: Final = (
    "in_channels", "block_out_channels", "down_block_types", "layers_per_block", "cross_attention_dim",
    "attention_head_dim", "norm_num_groups", "resnet_time_scale_shift", "addition_embed_type",
    "addition_embed_type_num_heads",
)  # fmt: skip
_COPIED: Final = ("conv_in", "time_embedding", "add_embedding", "down_blocks")


def build(unet: Any) -> Any:
    """A ControlNet that begins with the weights of the UNet's first half, and says nothing yet.

    `ControlNetModel.from_unet` would leave out how many heads pool the caption, and its middle would be as large as
    the UNet's, though edges need little of it. The guide is reduced by 4, as the autoencoder reduces pictures.
    """
    net: Any = ControlNetModel(  # type: ignore[no-untyped-call]
        **{name: unet.config[name] for name in _SHARED},
        mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=(16, 32, 48),
    )
    for name in _COPIED:
        getattr(net, name).load_state_dict(getattr(unet, name).state_dict())
    # Beside outputs that are zero the guide's own way in need not be, and so it learns from the first step.
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.03)
    return net.to(memory_format=torch.channels_last)


def train(target: Path, plan: Plan = PLAN) -> None:
    """Trains it for the model in `target`, in a process of its own."""
    launch(_train, 1, target, plan)


def _train(_rank: Rank, target: Path, plan: Plan) -> None:
    learn(target, plan)


def learn(target: Path, plan: Plan) -> Path:
    """Trains the ControlNet for the model in `target` and writes it there, below controls/; returns its folder."""
    torch.manual_seed(0)
    base = Base(target)
    unet = base.pipeline.unet
    net = build(unet)

    def predict(noised: Noised, hidden: torch.Tensor, guides: torch.Tensor) -> torch.Tensor:
        down, middle = net(noised.image, noised.steps, hidden, controlnet_cond=guides, return_dict=False)
        predicted: torch.Tensor = unet(
            noised.image,
            noised.steps,
            hidden,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return predicted

    teach(base, _lessons(), plan, net.parameters(), predict)
    net.to(torch.float16).save_pretrained(target / FOLDER, safe_serialization=True)
    return target / FOLDER


def _lessons() -> Iterator[Lesson]:
    """Any picture of the base model, with its edges, now and then drawn thicker."""
    rng = random.Random(5001)
    for example in examples(5000):
        yield Lesson(example.caption, example.pixels, guide(example.pixels, thick=rng.random() < 0.3))
