"""Adapters with random weights for the tiny model: LoRAs, ControlNets, and pictures to begin from."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from services.inference.engine.manifest import read_model
from tests.conftest import ROOT
from tests.inference.tiny import lib, model_yaml, write_tiny_model

EXTRAS = """\
capabilities: [text_to_image, image_to_image, inpaint, outpaint, control, upscale]
loras:
  style.one: {path: loras/one}
  two: {path: loras/two}
  foreign: {path: loras/foreign}
  gone: {path: loras/gone}
  torn: {path: loras/torn}
controls:
  edges: {path: controls/edges}
  depth: {path: controls/depth}
  foreign: {path: controls/foreign}
  gone: {path: controls/gone}
"""
FILE = "pytorch_lora_weights.safetensors"


def write_tiny_model_with_extras(folder: Path) -> Path:
    """The tiny model with LoRAs (`style.one`, `two`) and ControlNets (`edges`, `depth`) that fit, and some without."""
    write_tiny_model(folder)
    (folder / "model.yaml").write_text(model_yaml(folder.name) + EXTRAS)
    _write_extras(folder)
    return folder


def write_demo_model_with_extras(folder: Path) -> Path:
    """The demo model with the same adapters; their weights are random and no others are taken over."""
    demo = ROOT / "models" / "demo"
    shutil.copytree(demo, folder, ignore=shutil.ignore_patterns("loras", "controls"))
    ours = yaml.safe_load(EXTRAS)
    (folder / "model.yaml").write_text(yaml.safe_dump({**yaml.safe_load((demo / "model.yaml").read_text()), **ours}))
    _write_extras(folder)
    return folder


def _write_extras(folder: Path) -> None:
    pipeline = load(folder, "StableDiffusionPipeline")
    for number, name in enumerate(("edges", "depth")):
        _write_control(folder / "controls" / name, pipeline.unet, seed=number + 1)
    width = pipeline.unet.config.cross_attention_dim // 2
    foreign = lib.UNet2DConditionModel.from_config({**pipeline.unet.config, "cross_attention_dim": width})
    _write_control(folder / "controls" / "foreign", foreign, seed=3)
    for number, name in enumerate(("one", "two")):
        write_lora(folder / "loras" / name, pipeline, seed=number + 1)
    _write_foreign_lora(folder / "loras" / "foreign", folder / "loras" / "one")
    (folder / "loras" / "torn").mkdir()
    (folder / "loras" / "torn" / FILE).write_bytes((folder / "loras" / "one" / FILE).read_bytes()[:500])
    read_model(folder)


def load(folder: Path, class_name: str, **parts: Any) -> Any:
    """One of diffusers' pipelines over the folder's weights."""
    pipeline = getattr(lib, class_name).from_pretrained(
        str(folder), safety_checker=None, requires_safety_checker=False, dtype=torch.float32, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def scene(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A picture of a few coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def half(size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A mask whose right half is white."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (size[0] // 2, 0, size[0], size[1]))
    return mask


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_lora(folder: Path, pipeline: Any, seed: int) -> None:
    """A LoRA of random weights for a Stable Diffusion pipeline."""
    torch.manual_seed(seed)
    layers = {}
    for part, targets in (("unet", ["to_q", "to_v"]), ("text_encoder", ["q_proj", "out_proj"])):
        module = getattr(pipeline, part)
        module.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False), f"l{seed}")
        layers[f"{part}_lora_layers"] = get_peft_model_state_dict(module, adapter_name=f"l{seed}")
    type(pipeline).save_lora_weights(str(folder), **layers)
    pipeline.unet.delete_adapters([f"l{seed}"])
    pipeline.text_encoder.delete_adapter(f"l{seed}")


def lora_tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(file)
    return tensors


def write_stronger(source: Path, target: Path, layout: str) -> None:
    """A LoRA of rank 2 as one that says itself to be four times as strong: in diffusers' settings, or as kohya does."""
    from safetensors.torch import save_file

    tensors, alpha = lora_tensors(source), 8.0
    if layout == "settings":
        ends = (".lora_A.weight", ".lora.down.weight", ".lora_linear_layer.down.weight")
        told = {part: {"r": 2, "lora_alpha": alpha, "target_modules": []} for part in ("unet", "text_encoder")}
        for name in tensors:
            part, _, module = name.partition(".")
            told[part]["target_modules"] += [module.removesuffix(end) for end in ends if module.endswith(end)]
        flat = {f"{part}.{key}": value for part, each in told.items() for key, value in each.items()}
        save_file(tensors, target, {"lora_adapter_metadata": json.dumps(flat), "format": "pt"})
        return
    kohya = {}
    for name, tensor in tensors.items():
        module, _, end = name.partition(".lora")
        prefix = (
            module.replace("unet.", "lora_unet_", 1)
            .replace("text_encoder.", "lora_te_text_model_", 1)
            .replace(".", "_")
        )
        side = "lora_down" if ("_A" in end or "down" in end) else "lora_up"
        kohya |= {f"{prefix}.{side}.weight": tensor, f"{prefix}.alpha": torch.tensor(alpha)}
    save_file(kohya, target)


def _write_foreign_lora(folder: Path, like: Path) -> None:
    """The same names, for a model of other widths."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    save_file({name: torch.ones(3, 5) for name in load_file(like / FILE)}, folder / FILE)


def _write_control(folder: Path, unet: Any, seed: int) -> None:
    torch.manual_seed(seed)
    net = lib.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16))
    with torch.no_grad():
        for weights in net.parameters():  # ControlNets begin with zeros; those of a test must do something
            weights.add_(torch.randn_like(weights) * 0.05)
    net.save_pretrained(folder)
