"""Stable Diffusion under the step scheduler draws what diffusers' own pipeline draws."""

from __future__ import annotations

import io
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from services.inference.catalog import Models
from services.inference.engine.errors import ModelNotLoaded
from services.inference.engine.families import device_memory, load_family
from services.inference.engine.family_sd import StableDiffusion
from services.inference.engine.latent_sampling import LatentSampling
from services.inference.engine.manifest import read_model
from services.inference.engine.request import DrawRequest, Wanted
from services.inference.engine.schedulers import build, fitting
from tests.inference.tiny import lib, write_tiny_model


@pytest.fixture(scope="module")
def family(models: Models) -> StableDiffusion:
    torch.set_num_threads(1)
    return StableDiffusion.load(models.by_id["tiny"], "cpu")


def request(models: Models, **wanted: Any) -> DrawRequest:
    return models.settle(Wanted("tiny", "red star", **wanted), "")


def run(family: StableDiffusion, batch: Sequence[LatentSampling]) -> None:
    """Every sampling to its end, in shared passes."""
    while unfinished := [s for s in batch if s.step < s.steps]:
        for sampling, prediction in zip(unfinished, family.predict(unfinished), strict=True):
            family.advance(sampling, prediction)


def draw(family: StableDiffusion, *requests: DrawRequest) -> list[np.ndarray[Any, Any]]:
    samplings = [family.begin(each) for each in requests]
    run(family, samplings)
    return [pixels(family.picture(s, index)) for s in samplings for index in range(s.request.count)]


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def reference(models: Models, drawing: DrawRequest) -> list[np.ndarray[Any, Any]]:
    """The same request through `StableDiffusionPipeline.__call__`."""
    pipeline = lib.StableDiffusionPipeline.from_pretrained(
        str(models.by_id["tiny"].weights_folder),
        safety_checker=None,
        requires_safety_checker=False,
        dtype=torch.float32,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = build(drawing.scheduler, pipeline.scheduler.config, drawing.steps, "cpu")
    images = pipeline(
        prompt=drawing.prompt, negative_prompt=drawing.negative_prompt, width=drawing.width, height=drawing.height,
        num_inference_steps=drawing.steps, guidance_scale=drawing.guidance, num_images_per_prompt=drawing.count,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in drawing.seeds], output_type="np",
    ).images  # fmt: skip
    return [(image * 255).round().astype(int) for image in images]


@pytest.mark.parametrize("scheduler", fitting(flow=False))
def test_alone_it_is_the_bare_pipeline(family: StableDiffusion, models: Models, scheduler: str) -> None:
    drawing = request(models, scheduler=scheduler, seed=11, steps=6, count=2, negative_prompt="blue", width=40)
    ours, theirs = draw(family, drawing), reference(models, drawing)
    assert max(abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) <= 1


def test_without_guidance_it_is_the_bare_pipeline(family: StableDiffusion, models: Models) -> None:
    drawing = request(models, seed=3, guidance=1.0)
    assert abs(draw(family, drawing)[0] - reference(models, drawing)[0]).max() <= 1


def test_picture_i_is_drawn_from_seed_plus_i(family: StableDiffusion, models: Models) -> None:
    together = draw(family, request(models, seed=2**32 - 1, count=3))
    for seed, picture in zip((2**32 - 1, 0, 1), together, strict=True):
        assert abs(draw(family, request(models, seed=seed))[0] - picture).max() <= 2


@pytest.mark.parametrize("scheduler", fitting(flow=False))
def test_company_of_other_steps_and_guidance_changes_little(
    family: StableDiffusion, models: Models, scheduler: str
) -> None:
    mine = request(models, seed=21, steps=8, scheduler=scheduler)
    mates = (
        request(models, seed=1, steps=3, guidance=1.0, scheduler="ddim"),
        request(models, seed=2, steps=20, guidance=9.0, scheduler="euler_a", count=2),
    )
    alone, shared = draw(family, mine)[0], draw(family, mine, *mates)[0]
    assert abs(alone - shared).max() <= 2


def test_prompts_and_negative_prompts_count(family: StableDiffusion, models: Models) -> None:
    plain = draw(family, request(models, seed=1))[0]
    for changed in ({"negative_prompt": "blue dots"}, {"guidance": 9.0}, {"seed": 2}):
        assert (draw(family, request(models, **{"seed": 1, **changed}))[0] != plain).any()


def test_no_prompt_enters_the_log(family: StableDiffusion, models: Models, capfd: pytest.CaptureFixture[str]) -> None:
    family.begin(models.settle(Wanted("tiny", "secret " * 4000, negative_prompt="hidden " * 4000), ""))
    written = "".join(capfd.readouterr())
    assert "secret" not in written
    assert "hidden" not in written


def test_no_numbers_are_an_error(family: StableDiffusion, models: Models) -> None:
    sampling = family.begin(request(models))
    sampling.latents = sampling.latents * float("nan")
    with pytest.raises(ArithmeticError):
        family.picture(sampling, 0)


UNET = "unet/diffusion_pytorch_model.safetensors"
READER = "text_encoder/model.safetensors"


def without(file: Path, *names: str) -> None:
    kept = {name: tensor for name, tensor in load_file(file).items() if not name.endswith(names)}
    save_file(kept, file, {"format": "pt"})


def spoilt(file: Path) -> None:
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file, {"format": "pt"})


def in_family(folder: Path, name: str) -> None:
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("family: stable-diffusion", f"family: {name}"))


def in_steps_of(folder: Path, factor: int) -> None:
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("factor: 8", f"factor: {factor}"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda folder: os.truncate(folder / UNET, 1000), "Unable to load weights"),
    "missing": (lambda folder: (folder / UNET).unlink(), "no file named"),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "has no weights: no model_index.json"),
    "not all of the denoiser": (
        lambda folder: without(folder / UNET, "conv_in.weight", "conv_in.bias"),
        "no weights for unet.conv_in.weight and 1 more",
    ),
    "not all of the reader": (
        lambda folder: without(folder / READER, "final_layer_norm.weight"),
        "no weights for .*final_layer_norm.weight",
    ),
    "no words": (lambda folder: shutil.rmtree(folder / "tokenizer"), "its tokenizer has no vocabulary"),
    "no numbers": (lambda folder: spoilt(folder / UNET), "no finite numbers"),
    "sizes that it does not draw": (lambda folder: in_steps_of(folder, 2), "multiples of 4 pixels"),
    "another family": (
        lambda folder: in_family(folder, "stable-diffusion-xl"),
        "it has no (text_encoder|tokenizer)_2; is its family stable-diffusion-xl?",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_broken_weights_are_a_clear_error(tmp_path: Path, damage: str) -> None:
    folder = write_tiny_model(tmp_path / "broken")
    break_it, says = DAMAGES[damage]
    break_it(folder)
    with warnings.catch_warnings(), pytest.raises(ModelNotLoaded, match=rf"^broken .*{says}"):
        warnings.simplefilter("ignore")
        load_family(read_model(folder), "cpu")


def test_memory_of_this_machine() -> None:
    memory = device_memory("cpu")
    assert memory.total > memory.used > 0
