"""A manifest that allows every operation, for tests that draw nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from services.inference.engine.manifest import Model, read_model
from tests.inference.tiny import model_yaml

ADDED = """\
capabilities: [text_to_image, image_to_image, inpaint, outpaint, control, upscale]
controls: {edges: {path: controls/edges}}
loras: {oil: {path: oils/one.safetensors}}
"""


def guided_model(folder: Path) -> Model:
    """The model `guided`, or as the folder is called."""
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(model_yaml(folder.name) + ADDED)
    for file in ("oils/one.safetensors", "loras/ink.safetensors"):
        write_lora_file(folder / file)
    return read_model(folder)


def write_lora_file(file: Path, *names: str) -> None:
    """A whole file with tensors of these names; without any with one of a LoRA."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros((2, 3), np.float32) for name in names or ("unet.one.lora_A.weight",)}, file)
