"""A Stable Diffusion pipeline with random weights, small enough to be made and run in a moment."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

lib: Any = diffusers  # its classes are untyped

LENGTH = 16
MODEL_YAML = """\
id: tiny
display_name: Tiny random weights
family: stable-diffusion
weights: {path: "."}
capabilities: [text_to_image, image_to_image, inpaint]
size: {min: 16, max: 128, factor: 8, policy: refuse}
defaults: {width: 32, height: 32, steps: 4, guidance: 5.0, scheduler: ddim}
license: Apache-2.0
gpu_second_price_usd: "0.0005"
"""


def write_tiny_model(folder: Path) -> Path:
    """Writes `folder` as a servable model: weights in diffusers layout and a `model.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pipeline = lib.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(),
        tokenizer=tokenizer(folder / "vocabulary"),
        unet=_unet(),
        scheduler=lib.DDIMScheduler(
            beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    (folder / "model.yaml").write_text(model_yaml(folder.name))
    return folder


def model_yaml(name: str) -> str:
    """The `model.yaml` of a model called `name`."""
    return MODEL_YAML.replace("id: tiny", f"id: {name}")


def tokenizer(folder: Path) -> CLIPTokenizer:
    folder.mkdir()
    tokens = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH, pad_token="<|endoftext|>"
    )


def _text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    return CLIPTextModel(config)


def _unet() -> Any:
    return lib.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _vae() -> Any:
    return lib.AutoencoderKL(
        block_out_channels=(32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
    )
