"""LoRA and ControlNet as they are written: small, loadable by plain diffusers and by the engine, and trainable."""

import io
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.inference.engine.family_sd import StableDiffusion
from services.inference.engine.manifest import read_model
from services.inference.engine.request import ControlInput, DrawRequest, LoraUse
from tools.train_demo import control, lora
from tools.train_demo.drawing import draw
from tools.train_demo.edges import guide
from tools.train_demo.evaluate import GUIDANCE, STEPS, paint
from tools.train_demo.export import load
from tools.train_demo.extension import Plan
from tools.train_demo.extension_scores import paint_guided, with_control, with_lora
from tools.train_demo.facts import Facts, Thing

MODEL = Path(__file__).parents[2] / "models" / "demo"
PROMPT = "a red star on a blue background"
GUIDE = guide(draw(Facts((Thing("heart", "red"),), "white"), random.Random(1)))
EXTRAS = """
loras:
  neon: {path: loras/neon, display_name: Neon}
controls:
  edges: {path: controls/edges, display_name: Edges}
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shipped model with a LoRA and a ControlNet of four steps' training each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on shared cores, more threads wait for one another
    folder = tmp_path_factory.mktemp("models") / "demo"
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("loras", "controls"))
    lora.learn(folder, Plan(samples=64, rate=1e-2))
    control.learn(folder, Plan(samples=64, rate=1e-2))
    yield folder
    torch.set_num_threads(threads)


def weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_they_are_small(extended: Path) -> None:
    assert 0 < weights(extended / lora.FOLDER) <= 1_000_000
    assert 0 < weights(extended / control.FOLDER) <= 4_000_000


def test_an_untrained_controlnet_says_nothing() -> None:
    unet = load(MODEL).unet
    net = control.build(unet).eval()
    rows = {"sample": torch.randn(2, 4, 16, 16), "timestep": 500, "encoder_hidden_states": torch.randn(2, 32, 128)}
    with torch.no_grad():
        down, middle = net(**rows, controlnet_cond=torch.ones(2, 3, 64, 64), return_dict=False)
        told = unet(**rows, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
        assert torch.equal(told, unet(**rows).sample)


def test_diffusers_draws_with_the_lora_and_unloads_it_exactly(extended: Path) -> None:
    pipeline = with_lora(extended)
    (styled,) = paint(pipeline, [PROMPT], seed=3)
    pipeline.unload_lora_weights()
    (bare,) = paint(pipeline, [PROMPT], seed=3)
    assert np.array_equal(bare, paint(load(extended), [PROMPT], seed=3)[0])
    assert np.abs(styled.astype(int) - bare).max() > 8


def drawn(family: Any, **options: Any) -> np.ndarray[Any, Any]:
    request = DrawRequest("r", "demo", PROMPT, "", 64, 64, 1, 3, STEPS, GUIDANCE, "dpmpp_2m", **options)
    sampling = family.begin(request)
    while sampling.step < sampling.steps:
        (prediction,) = family.predict([sampling])
        family.advance(sampling, prediction)
    return np.asarray(Image.open(io.BytesIO(family.picture(sampling, 0))))


@pytest.fixture(scope="module")
def family(extended: Path) -> StableDiffusion:
    lines = [line for line in (extended / "model.yaml").read_text().splitlines() if line.split(":")[0] not in HELD]
    (extended / "model.yaml").write_text("\n".join(lines) + "\ncapabilities: [text_to_image, control]" + EXTRAS)
    return StableDiffusion.load(read_model(extended), "cpu")


HELD = ("capabilities", "loras", "controls", "  neon", "  edges")


def test_the_engine_draws_with_the_lora_as_diffusers_does(family: StableDiffusion, extended: Path) -> None:
    (wanted,) = paint(with_lora(extended), [PROMPT], seed=3)
    assert np.abs(drawn(family, loras=(LoraUse("neon"),)).astype(int) - wanted).max() <= 2


def test_the_engine_draws_along_a_guide_as_diffusers_does(family: StableDiffusion, extended: Path) -> None:
    (wanted,) = paint_guided(with_control(extended), [PROMPT], [GUIDE], seed=3)
    file = io.BytesIO()
    Image.fromarray(GUIDE).save(file, "PNG")
    picture = drawn(family, controls=(ControlInput("edges", file.getvalue()),))
    assert np.abs(picture.astype(int) - wanted).max() <= 2
    assert np.abs(picture.astype(int) - drawn(family)).max() > 8


def test_the_same_lessons_give_the_same_weights(extended: Path, tmp_path: Path) -> None:
    shutil.copytree(extended, tmp_path / "demo", ignore=shutil.ignore_patterns("loras", "controls"))
    lora.learn(tmp_path / "demo", Plan(samples=64, rate=1e-2))
    (one,), (other,) = ((root / lora.FOLDER).glob("*.safetensors") for root in (extended, tmp_path / "demo"))
    assert one.read_bytes() == other.read_bytes()
