"""SDXL and FLUX.1-dev with random weights: speed does not depend on what the weights say.

The numbers are facts of the published models, from the `config.json` of each part of the repositories
`stabilityai/stable-diffusion-xl-base-1.0` and `black-forest-labs/FLUX.1-dev`. Their denoisers have 2.57 billion weights
(Podell et al. 2023, arXiv:2307.01952, table 1: 2.6) and 11.90 (announced: 12). The tokenizers know letters only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import diffusers
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from services.inference.engine.family_flux import Flux
from services.inference.engine.family_latent import LatentFamily
from services.inference.engine.family_sdxl import StableDiffusionXL
from services.inference.engine.manifest import Defaults, Manifest, Model, SizeRule, Weights

lib: Any = diffusers  # its classes are untyped
words: Any = transformers

CLIP_TOKENS = 77
LETTERS = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase), "<|startoftext|>", "<|endoftext|>"]
SPECIAL = {"bos_token_id": LETTERS.index("<|startoftext|>"), "eos_token_id": LETTERS.index("<|endoftext|>")}
PIECES = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in ascii_lowercase)]


@dataclass(frozen=True)
class Configuration:
    """The numbers of one model's parts, and what is drawn with it: a square of `side` pixels in `steps` steps."""

    family: type[LatentFamily]
    side: int
    steps: int
    guidance: float
    scheduler: str
    denoiser: Mapping[str, Any]
    vae: Mapping[str, Any]
    clip: tuple[Mapping[str, Any], ...]
    t5: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Positions of the latents each way."""
        halvings = len(self.vae["block_out_channels"]) - 1
        return self.side >> halvings


CLIP_L = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
CLIP_L |= {"num_attention_heads": 12, "projection_dim": 768}
CLIP_G = {"vocab_size": 49408, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
CLIP_G |= {"num_attention_heads": 20, "projection_dim": 1280}
T5_XXL: dict[str, Any] = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24}
T5_XXL |= {"num_heads": 64, "feed_forward_proj": "gated-gelu"}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 1024,
}
UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
TRANSFORMER = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
SDXL_VAE = {**VAE, "latent_channels": 4, "scaling_factor": 0.13025, "force_upcast": True}
FLUX_VAE = {**VAE, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
CONFIGURATIONS = {
    "sdxl": Configuration(StableDiffusionXL, 1024, 30, 5.0, "euler", UNET, SDXL_VAE, (CLIP_L, CLIP_G)),
    "flux-dev": Configuration(
        Flux,
        1024,
        28,
        3.5,
        "flow_match_euler",
        TRANSFORMER,
        FLUX_VAE,
        (CLIP_L,),
        T5_XXL,
    ),
}

TINY_CLIP = {"vocab_size": 54, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
TINY_CLIP |= {"num_attention_heads": 2, "projection_dim": 32}
TINY_BLOCKS = {"block_out_channels": (32, 32), "norm_num_groups": 8, "layers_per_block": 1, "sample_size": 32}
TINY_BLOCKS |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
TINY_UNET = {**UNET, "block_out_channels": (32, 32, 64), "norm_num_groups": 8, "layers_per_block": 1}
TINY_UNET |= {"attention_head_dim": (1, 2, 2), "transformer_layers_per_block": (1, 1, 1), "cross_attention_dim": 64}
TINY_UNET |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80}
TINY_TRANSFORMER = {
    **TRANSFORMER,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "axes_dims_rope": (4, 6, 6),
}
TINY_TRANSFORMER |= {"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 64}
TINY_TRANSFORMER |= {"pooled_projection_dim": 32}
TINY_VAE = {**TINY_BLOCKS, "latent_channels": 4}
TINY_T5 = {"vocab_size": 32, "d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2}
TINY = {
    "sdxl": Configuration(StableDiffusionXL, 32, 2, 5.0, "euler", TINY_UNET, TINY_VAE, (TINY_CLIP, TINY_CLIP)),
    "flux-dev": Configuration(Flux, 32, 2, 3.5, "flow_match_euler", TINY_TRANSFORMER, TINY_VAE, (TINY_CLIP,), TINY_T5),
}


def manifest_of(name: str, shape: Configuration, switches: Mapping[str, bool]) -> Manifest:
    """The manifest of a model with random weights; `switches` are its `compile`, `cuda_graphs` and `fuse_qkv`."""
    flow = shape.family is Flux
    return Manifest(
        id=name,
        display_name=name,
        family="flux" if flow else "stable-diffusion-xl",
        weights=Weights(path="."),
        dtype="bfloat16",
        compile=switches["compile"],
        cuda_graphs=switches["cuda_graphs"],
        fuse_qkv=switches["fuse_qkv"],
        size=SizeRule(min=16, max=shape.side, factor=16),
        defaults=Defaults(
            width=shape.side, height=shape.side, steps=shape.steps, guidance=shape.guidance, scheduler=shape.scheduler
        ),
        license="Apache-2.0",
    )


def family_of(shape: Configuration, manifest: Manifest, device: str, folder: Path) -> LatentFamily:
    """The model on its device, made there, in bfloat16 (float32 on the CPU); `folder` takes its tokenizers."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with _made_on(device, dtype):
        parts = _sdxl(shape) if shape.family is StableDiffusionXL else _flux(shape)
    for part in parts.values():
        part.eval()
    pipeline_class: Any = shape.family.pipeline_class
    pipeline = pipeline_class(**parts, **_beside_weights(shape, folder), **shape.family.options)
    return shape.family(Model(manifest=manifest, folder=folder), pipeline.to(device), device)


def denoiser_flop(shape: Configuration) -> tuple[int, int]:
    """Floating-point operations of one pass for one picture (with guidance: two rows), and the denoiser's parameters.

    Counted on tensors without memory, by torch: matrix products, convolutions, attention.
    """
    with torch.device("meta"), torch.no_grad():
        denoiser, call = _passes[shape.family](shape)
        with FlopCounterMode(display=False) as counter:
            call(denoiser)
    return counter.get_total_flops(), sum(tensor.numel() for tensor in denoiser.parameters())


def _sdxl_pass(shape: Configuration) -> tuple[Any, Callable[[Any], Any]]:
    unet = lib.UNet2DConditionModel(**shape.denoiser)
    config, side = unet.config, shape.tokens
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    told = {"text_embeds": torch.zeros(2, pooled), "time_ids": torch.zeros(2, 6)}
    prompt = torch.zeros(2, CLIP_TOKENS, config.cross_attention_dim)
    sample, time = torch.zeros(2, config.in_channels, side, side), torch.zeros(2)
    return unet, lambda denoiser: denoiser(sample, time, encoder_hidden_states=prompt, added_cond_kwargs=told)


def _flux_pass(shape: Configuration) -> tuple[Any, Callable[[Any], Any]]:
    transformer = lib.FluxTransformer2DModel(**shape.denoiser)
    config, tokens = transformer.config, (shape.tokens // 2) ** 2
    inputs = {
        "hidden_states": torch.zeros(1, tokens, config.in_channels),
        "timestep": torch.zeros(1),
        "guidance": torch.zeros(1),
        "encoder_hidden_states": torch.zeros(1, 512, config.joint_attention_dim),
        "pooled_projections": torch.zeros(1, config.pooled_projection_dim),
        "txt_ids": torch.zeros(512, 3),
        "img_ids": torch.zeros(tokens, 3),
    }
    return transformer, lambda denoiser: denoiser(**inputs)


_passes: Mapping[type[LatentFamily], Callable[[Configuration], tuple[Any, Callable[[Any], Any]]]] = {
    StableDiffusionXL: _sdxl_pass,
    Flux: _flux_pass,
}


@contextmanager
def _made_on(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Weights are drawn where they stay, in the dtype they keep: FLUX.1-dev in float32 would not fit beside its T5."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def _sdxl(shape: Configuration) -> dict[str, Any]:
    return {
        "vae": lib.AutoencoderKL(**shape.vae),
        "text_encoder": words.CLIPTextModel(_clip(shape.clip[0])),
        "text_encoder_2": words.CLIPTextModelWithProjection(_clip(shape.clip[1])),
        "unet": lib.UNet2DConditionModel(**shape.denoiser),
    }


def _flux(shape: Configuration) -> dict[str, Any]:
    return {
        "vae": lib.AutoencoderKL(**shape.vae),
        "text_encoder": words.CLIPTextModel(_clip(shape.clip[0])),
        "text_encoder_2": words.T5EncoderModel(words.T5Config(**shape.t5)),
        "transformer": lib.FluxTransformer2DModel(**shape.denoiser),
    }


def _beside_weights(shape: Configuration, folder: Path) -> dict[str, Any]:
    """Tokenizers and scheduler; schedulers compute on the CPU whatever the device."""
    if shape.family is StableDiffusionXL:
        scheduler = lib.EulerDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1)
        return {"tokenizer": _tokenizer(folder), "tokenizer_2": _tokenizer(folder), "scheduler": scheduler}
    scheduler = lib.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pieces = words.T5Tokenizer(vocab=PIECES, extra_ids=0)
    return {"tokenizer": _tokenizer(folder), "tokenizer_2": pieces, "scheduler": scheduler}


def _clip(numbers: Mapping[str, Any]) -> Any:
    return words.CLIPTextConfig(**numbers, max_position_embeddings=CLIP_TOKENS, pad_token_id=0, **SPECIAL)


def _tokenizer(folder: Path) -> Any:
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(LETTERS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return words.CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=CLIP_TOKENS,
        pad_token="<|endoftext|>",
    )
