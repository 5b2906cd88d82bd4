"""Pipelines of the larger families with random weights, small enough to be made and run in a moment."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.inference.tiny import LENGTH, lib, tokenizer

MODEL_YAML = """\
id: {name}
display_name: Tiny {name}
family: {family}
weights: {{path: "."}}
capabilities: [text_to_image, image_to_image, inpaint, outpaint, upscale]
size: {{min: 16, max: 128, factor: 16, policy: refuse}}
defaults: {{width: 32, height: 32, steps: 4, guidance: 5.0, scheduler: {scheduler}}}
license: Apache-2.0
gpu_second_price_usd: "0.0005"
"""
LEFT_OUT = {"sd3-without-t5": "leave_out: [text_encoder_3, tokenizer_3]\n"}
PIECES = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in string.ascii_lowercase)]
HIDDEN = 32  # of each CLIP encoder
WORDS = 64  # of T5: both CLIP encoders side by side fit


def write_tiny_family(folder: Path, family: str) -> Path:
    """Writes `folder` as a servable model of `family`, a name of the table below."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pipeline, scheduler = BUILDERS[family](folder)
    pipeline.save_pretrained(folder, safe_serialization=True)
    text = MODEL_YAML.format(name=folder.name, family=FAMILY[family], scheduler=scheduler)
    (folder / "model.yaml").write_text(text + LEFT_OUT.get(family, ""))
    return folder


def _sdxl(folder: Path) -> tuple[Any, str]:
    unet = lib.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * HIDDEN,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + HIDDEN,
        norm_num_groups=8,
    )
    pipeline = lib.StableDiffusionXLPipeline(
        vae=_vae(4, None),
        text_encoder=CLIPTextModel(_clip()),
        text_encoder_2=CLIPTextModelWithProjection(_clip()),
        tokenizer=tokenizer(folder / "vocabulary"),
        tokenizer_2=tokenizer(folder / "vocabulary2"),
        unet=unet,
        scheduler=lib.EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )
    return pipeline, "euler"


def _sd3(folder: Path, with_t5: bool = True) -> tuple[Any, str]:
    transformer = lib.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_projection_dim=32,
        joint_attention_dim=WORDS,
        pooled_projection_dim=2 * HIDDEN,
        out_channels=16,
        pos_embed_max_size=32,
        qk_norm="rms_norm",
    )
    pipeline = lib.StableDiffusion3Pipeline(
        vae=_vae(16, 0.0609),
        text_encoder=CLIPTextModelWithProjection(_clip()),
        text_encoder_2=CLIPTextModelWithProjection(_clip()),
        text_encoder_3=_t5() if with_t5 else None,
        tokenizer=tokenizer(folder / "vocabulary"),
        tokenizer_2=tokenizer(folder / "vocabulary2"),
        tokenizer_3=T5Tokenizer(vocab=PIECES, extra_ids=0) if with_t5 else None,
        transformer=transformer,
        scheduler=lib.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    return pipeline, "flow_match_euler"


def _flux(folder: Path, guidance: bool) -> tuple[Any, str]:
    transformer = lib.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WORDS,
        pooled_projection_dim=HIDDEN,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 6, 6),
    )
    pipeline = lib.FluxPipeline(
        vae=_vae(4, 0.1159),
        text_encoder=CLIPTextModel(_clip()),
        text_encoder_2=_t5(),
        tokenizer=tokenizer(folder / "vocabulary"),
        tokenizer_2=T5Tokenizer(vocab=PIECES, extra_ids=0),
        transformer=transformer,
        scheduler=lib.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=guidance),
    )
    return pipeline, "flow_match_euler"


def _clip() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=54,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=HIDDEN,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )


def _t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=len(PIECES), d_model=WORDS, d_kv=16, d_ff=64, num_layers=1, num_heads=2))


def _vae(channels: int, shift: float | None) -> Any:
    return lib.AutoencoderKL(
        block_out_channels=(32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=32,
        scaling_factor=0.5,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


BUILDERS: Mapping[str, Callable[[Path], tuple[Any, str]]] = {
    "sdxl": _sdxl,
    "sd3": _sd3,
    "sd3-without-t5": lambda folder: _sd3(folder, with_t5=False),
    "flux-dev": lambda folder: _flux(folder, guidance=True),
    "flux-schnell": lambda folder: _flux(folder, guidance=False),
}
FAMILY = {
    "sdxl": "stable-diffusion-xl",
    "sd3": "stable-diffusion-3",
    "sd3-without-t5": "stable-diffusion-3",
    "flux-dev": "flux",
    "flux-schnell": "flux",
}
