"""Writes the trained parts as one pipeline in the standard diffusers layout, fp16 safetensors."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from transformers import CLIPTextModel

from tools.train_demo import tokenizer, vae
from tools.train_demo.noising import NOISE
from tools.train_demo.unet import CHECKPOINT, build

Pipeline = Any  # diffusers.StableDiffusionPipeline, which carries no types


def export(folder: Path, target: Path) -> Pipeline:
    """Writes `folder`'s averaged weights to `target`; returns the pipeline that was written."""
    content: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)
    unet, text = build(), CLIPTextModel.from_pretrained(folder / "text_encoder")
    unet.load_state_dict(_part(content["average"], "unet."))
    text.load_state_dict(_part(content["average"], "text."))
    pipeline: Pipeline = StableDiffusionPipeline(  # type: ignore[no-untyped-call]
        vae=vae.load(folder),
        text_encoder=text,
        tokenizer=tokenizer.load(folder),
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(  # type: ignore[no-untyped-call]
            **NOISE, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="trailing", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.scheduler.register_to_config(clip_sample=False)
    pipeline.to(torch.float16).save_pretrained(target, safe_serialization=True)
    return pipeline


def load(target: Path) -> Pipeline:
    """The exported pipeline, in fp32 for the CPU."""
    stored: Pipeline = StableDiffusionPipeline.from_pretrained(target)  # type: ignore[no-untyped-call]
    pipeline: Pipeline = stored.to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
