"""A manifest that allows every operation, for tests that draw nothing."""

from __future__ import annotations

from pathlib import Path

from services.inference.engine.manifest import Model, read_model
from tests.inference.tiny import model_yaml

ADDED = """\
capabilities: [text_to_image, image_to_image, inpaint, outpaint, control, upscale]
controls: {edges: {path: controls/edges}}
loras: {oil: {path: loras/oil}, ink: {path: loras/ink}}
"""


def guided_model(folder: Path) -> Model:
    """The model `guided`, or as the folder is called."""
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(model_yaml(folder.name) + ADDED)
    return read_model(folder)
