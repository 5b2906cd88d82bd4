"""Every operation under the step scheduler draws what diffusers' own pipeline of that operation draws."""

from __future__ import annotations

import gc
import io
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from services.inference.catalog import Models
from services.inference.engine.canvas import canvas_of
from services.inference.engine.errors import EngineError, RequestRefused
from services.inference.engine.families import load_family, use_threads
from services.inference.engine.family_sd import StableDiffusion
from services.inference.engine.latent_sampling import LatentSampling
from services.inference.engine.manifest import read_models
from services.inference.engine.request import ControlInput, DrawRequest, LoraUse, Margins, Wanted
from services.inference.engine.schedulers import build, fitting
from tests.inference.tiny_extras import (
    FILE,
    half,
    load,
    lora_tensors,
    png,
    scene,
    write_demo_model_with_extras,
    write_stronger,
    write_tiny_model_with_extras,
)

# Adapters of one set are laid over the model one after another; peft supposes that this may be a mistake.
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")

Pictures = list[np.ndarray[Any, Any]]

ALONE = {"inpaint": 1, "outpaint": 1}  # of 255: what may differ from the bare pipeline, by rounding; else nothing
SHARED = 2  # what company may change

PICTURE = png(scene(1))
OPERATIONS: dict[str, dict[str, Any]] = {
    "text_to_image": {},
    "image_to_image": {"image": PICTURE, "strength": 0.5},
    "inpaint": {"image": PICTURE, "mask": png(half()), "strength": 0.7},
    "outpaint": {"image": PICTURE, "margins": Margins(left=8, bottom=16)},
    "control": {"controls": (ControlInput("edges", png(scene(2)), 0.8),)},
    "upscale": {"image": PICTURE, "upscale_factor": 2, "strength": 0.4},
}
BOTH_LORAS = (LoraUse("style.one", 0.7), LoraUse("two", -0.4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model_with_extras(tmp_path_factory.mktemp("operations") / "tiny")


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_model_with_extras(tmp_path_factory.mktemp("operations") / "demo")


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return Models(read_models(folder.parent), draw_seed=lambda: 1234)


@pytest.fixture(scope="module")
def demo_models(demo_folder: Path) -> Models:
    return Models(read_models(demo_folder.parent), draw_seed=lambda: 1234)


@pytest.fixture(scope="module")
def family(models: Models) -> StableDiffusion:
    return loaded(models)


@pytest.fixture(scope="module")
def demo_family(demo_models: Models) -> StableDiffusion:
    return loaded(demo_models)


def loaded(models: Models) -> StableDiffusion:
    use_threads(1)
    [own] = models
    family = load_family(own.model, "cpu")
    assert isinstance(family, StableDiffusion)
    return family


def request(models: Models, operation: str = "text_to_image", **wanted: Any) -> DrawRequest:
    values = {"prompt": "red star", "operation": operation, "steps": 6, "seed": 11, **OPERATIONS[operation], **wanted}
    [own] = models
    return models.settle(Wanted(own.model.manifest.id, **values), "")


def draw(family: StableDiffusion, *requests: DrawRequest) -> Pictures:
    samplings = [family.begin(each) for each in requests]
    run(family, samplings)
    return [pixels(family.picture(s, index)) for s in samplings for index in range(s.request.count)]


def run(family: StableDiffusion, batch: Sequence[LatentSampling]) -> None:
    """Every sampling to its end, in shared passes."""
    while unfinished := [s for s in batch if s.step < s.steps]:
        assert len({s.shape for s in unfinished}) == 1
        for sampling, prediction in zip(unfinished, family.predict(unfinished), strict=True):
            family.advance(sampling, prediction)


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def difference(some: Pictures, others: Pictures) -> int:
    return max(int(abs(one - other).max()) for one, other in zip(some, others, strict=True))


def reference(folder: Path, drawing: DrawRequest) -> Pictures:
    """The same request through the `__call__` of diffusers' pipeline for it."""
    canvas = canvas_of(drawing)
    size: dict[str, Any] = {"width": drawing.width, "height": drawing.height}
    parts: dict[str, Any] = {}
    controls = _controls(folder, drawing)
    if canvas is None:
        class_name, inputs = "StableDiffusionPipeline", size
        if controls:
            class_name = "StableDiffusionControlNetPipeline"
            inputs |= {"image": controls["images"], "controlnet_conditioning_scale": controls["scales"]}
    elif canvas.mask is None:
        class_name, inputs = "StableDiffusionImg2ImgPipeline", {"strength": drawing.strength}
        inputs["image"] = canvas.image.resize((drawing.width, drawing.height), Image.Resampling.LANCZOS)
        if controls:
            class_name = "StableDiffusionControlNetImg2ImgPipeline"
            inputs |= {"control_image": controls["images"], "controlnet_conditioning_scale": controls["scales"]}
    else:
        class_name = "StableDiffusionInpaintPipeline"
        inputs = {**size, "image": canvas.image, "mask_image": canvas.mask, "strength": drawing.strength}
    if controls:
        parts["controlnet"] = controls["nets"]
    pipeline = load(folder, class_name, **parts)
    for use in drawing.loras:
        pipeline.load_lora_weights(str(folder / "loras" / use.lora_id.split(".")[-1]), adapter_name=use.lora_id[:3])
    if drawing.loras:
        pipeline.set_adapters([use.lora_id[:3] for use in drawing.loras], [use.scale for use in drawing.loras])
    pipeline.scheduler = build(drawing.scheduler, pipeline.scheduler.config, drawing.steps, "cpu")
    pictures = pipeline(
        prompt=drawing.prompt, negative_prompt=drawing.negative_prompt, num_inference_steps=drawing.steps,
        guidance_scale=drawing.guidance, num_images_per_prompt=drawing.count,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in drawing.seeds], output_type="np", **inputs,
    ).images  # fmt: skip
    return [(picture * 255).round().astype(int) for picture in pictures]


def _controls(folder: Path, drawing: DrawRequest) -> dict[str, Any]:
    """What diffusers takes: lists, or one of each; nothing where nothing controls."""
    told = {
        "nets": [_control(folder, control.kind) for control in drawing.controls],
        "images": [Image.open(io.BytesIO(control.image)) for control in drawing.controls],
        "scales": [control.scale for control in drawing.controls],
    }
    return {name: each if len(each) > 1 else each[0] for name, each in told.items() if each}


def _control(folder: Path, kind: str) -> Any:
    from tests.inference.tiny import lib

    return lib.ControlNetModel.from_pretrained(str(folder / "controls" / kind), dtype=torch.float32)


@pytest.mark.parametrize("scheduler", fitting(flow=False))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_alone_it_is_the_bare_pipeline(
    family: StableDiffusion, models: Models, folder: Path, operation: str, scheduler: str
) -> None:
    drawing = request(models, operation, scheduler=scheduler, negative_prompt="blue")
    assert difference(draw(family, drawing), reference(folder, drawing)) <= ALONE.get(drawing.operation, 0)


@pytest.mark.parametrize("loras", [BOTH_LORAS[:1], BOTH_LORAS], ids=["one", "both"])
@pytest.mark.parametrize("operation", ["text_to_image", "inpaint", "control"])
def test_adapters_are_the_bare_pipelines(
    family: StableDiffusion, models: Models, folder: Path, operation: str, loras: tuple[LoraUse, ...]
) -> None:
    drawing = request(models, operation, loras=loras)
    drawn = draw(family, drawing)
    assert difference(drawn, reference(folder, drawing)) <= ALONE.get(drawing.operation, 0)
    assert difference(drawn, draw(family, request(models, operation))) > SHARED


def test_two_controls_are_the_bare_pipelines(family: StableDiffusion, models: Models, folder: Path) -> None:
    controls = (ControlInput("edges", png(scene(2)), 0.8), ControlInput("depth", png(scene(3)), 0.3))
    drawing = request(models, "control", controls=controls)
    drawn = draw(family, drawing)
    assert difference(drawn, reference(folder, drawing)) <= ALONE.get(drawing.operation, 0)
    assert difference(drawn, draw(family, request(models, "control"))) > SHARED


@pytest.mark.parametrize("scheduler", fitting(flow=False))
def test_a_control_that_begins_from_an_image_is_the_bare_pipelines(
    family: StableDiffusion, models: Models, folder: Path, scheduler: str
) -> None:
    drawing = request(models, "control", image=PICTURE, strength=0.5, scheduler=scheduler)
    drawn = draw(family, drawing)
    assert difference(drawn, reference(folder, drawing)) == 0
    assert difference(drawn, draw(family, request(models, "control", scheduler=scheduler))) > SHARED
    assert difference(draw(family, drawing, *mates(models, drawing))[:1], drawn) <= SHARED


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("loras", [(), BOTH_LORAS], ids=["plain", "adapters"])
def test_company_changes_little(
    family: StableDiffusion, models: Models, operation: str, loras: tuple[LoraUse, ...]
) -> None:
    mine = request(models, operation, loras=loras)
    assert difference(draw(family, mine, *mates(models, mine))[:1], draw(family, mine)) <= SHARED


def mates(models: Models, mine: DrawRequest) -> list[DrawRequest]:
    """Requests that share the passes of `mine` and differ in all else."""
    other = request(
        models, mine.operation, loras=mine.loras, seed=5, steps=9, guidance=2.0, scheduler="euler_a", prompt="blue dot"
    )
    if mine.controls:
        controls = (ControlInput("edges", png(scene(7)), 1.7),)
        return [other, request(models, "control", loras=mine.loras, controls=controls)]
    # What begins from noise shares passes with what begins from an image.
    size: dict[str, Any] = {"width": mine.width, "height": mine.height}
    return [other, request(models, loras=mine.loras, count=2, guidance=1.0, **size)]


@pytest.mark.parametrize("loras", [(), BOTH_LORAS], ids=["plain", "adapters"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_demo_model_keeps_both_promises(
    demo_family: StableDiffusion, demo_models: Models, demo_folder: Path, operation: str, loras: tuple[LoraUse, ...]
) -> None:
    mine = request(demo_models, operation, prompt="two yellow stars on a dark blue background", loras=loras, steps=8)
    alone = draw(demo_family, mine)
    assert difference(alone, reference(demo_folder, mine)) <= ALONE.get(operation, 0)
    assert difference(draw(demo_family, mine, *mates(demo_models, mine))[:1], alone) <= SHARED


def test_each_picture_of_an_image_request_has_its_own_seed(family: StableDiffusion, models: Models) -> None:
    together = draw(family, request(models, "inpaint", seed=4, count=2))
    assert difference(together[:1], draw(family, request(models, "inpaint", seed=4))) <= SHARED
    assert difference(together[1:], draw(family, request(models, "inpaint", seed=5))) <= SHARED


def test_an_adapter_comes_changes_and_goes_while_others_draw(
    family: StableDiffusion, models: Models, folder: Path
) -> None:
    plain, file = request(models), folder / "loras" / "late.safetensors"
    adapted = replace(plain, loras=(LoraUse("late"),))
    with pytest.raises(RequestRefused, match="loras: lora late of tiny is not there"):
        family.begin(adapted)
    shutil.copy(folder / "loras" / "one" / FILE, file)
    one = draw(family, adapted)
    assert difference(one, draw(family, replace(plain, loras=(LoraUse("style.one"),)))) == 0
    running = family.begin(adapted)
    file.write_bytes((folder / "loras" / "two" / FILE).read_bytes())  # over the old one, in place
    assert difference(draw(family, adapted), draw(family, replace(plain, loras=(LoraUse("two"),)))) == 0
    file.unlink()
    with pytest.raises(RequestRefused, match="loras: lora late of tiny is not there"):
        family.begin(adapted)
    run(family, [running])
    assert difference([pixels(family.picture(running, 0))], one) == 0
    assert difference(draw(family, plain), one) > SHARED


def test_a_lora_that_is_still_being_copied_is_refused_until_it_is_whole(
    family: StableDiffusion, models: Models, folder: Path
) -> None:
    file = folder / "loras" / "slow.safetensors"
    adapted = replace(request(models), loras=(LoraUse("slow"),))
    data = (folder / "loras" / "one" / FILE).read_bytes()
    with file.open("wb") as copying:
        for size in (0, 5, 100, len(data) - 1):
            copying.write(data[copying.tell() : size])
            copying.flush()
            with pytest.raises(RequestRefused, match="lora slow of tiny is broken"):
                family.begin(adapted)
        copying.write(data[copying.tell() :])
    assert difference(draw(family, adapted), draw(family, replace(adapted, loras=(LoraUse("style.one"),)))) == 0
    file.unlink()


@pytest.mark.parametrize("layout", ["settings", "kohya"])
def test_how_strong_a_lora_is_by_itself_is_read_from_its_file(
    family: StableDiffusion, models: Models, folder: Path, layout: str
) -> None:
    strong = folder / "loras" / layout
    strong.mkdir()
    write_stronger(folder / "loras" / "one" / FILE, strong / FILE, layout)
    drawing = replace(request(models), loras=(LoraUse(layout, 0.5),))
    drawn = draw(family, drawing)
    assert difference(drawn, reference(folder, drawing)) == 0
    assert difference(drawn, draw(family, replace(drawing, loras=(LoraUse("style.one", 0.5),)))) > SHARED
    assert difference(drawn, draw(family, replace(drawing, loras=(LoraUse("style.one", 2.0),)))) <= SHARED


def test_sets_are_kept_within_bounds(
    family: StableDiffusion, models: Models, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = request(models)
    sets = [(LoraUse("two", 1 + number / 100),) for number in range(4)]
    first = family.adapters.take(sets[0])
    assert first.bytes == sum(tensor.numel() * 4 for tensor in lora_tensors(folder / "loras" / "two" / FILE).values())
    monkeypatch.setattr("services.inference.engine.adapters.MOST_BYTES", 2 * first.bytes)
    gone = weakref.ref(first.pipeline.unet)
    del first
    for uses in sets:
        draw(family, replace(plain, loras=uses))
    gc.collect()
    assert gone() is None
    kept = family.adapters.take(sets[-1])
    assert family.adapters.take(sets[-2]) is not kept
    assert family.adapters.take(sets[-1]) is kept


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"loras": (LoraUse("foreign"),)}, "loras: lora foreign of tiny does not fit"),
        ({"loras": (LoraUse("two"), LoraUse("torn"))}, "loras: lora torn of tiny is broken"),
        ({"loras": (LoraUse("gone"),)}, "loras: lora gone of tiny has no weights"),
        (
            {"controls": (ControlInput("foreign", PICTURE),)},
            r"controls\[0\]\.kind: control foreign of tiny could not be loaded.*another",
        ),
        (
            {"controls": (ControlInput("edges", PICTURE), ControlInput("gone", PICTURE))},
            r"controls\[1\]\.kind: control gone of tiny could not be loaded: nothing at",
        ),
    ],
)
def test_adapters_that_do_not_load_or_fit_are_refused_by_name(
    family: StableDiffusion, models: Models, wanted: dict[str, Any], match: str
) -> None:
    for _ in range(2):
        with pytest.raises(RequestRefused, match=match):
            family.begin(replace(request(models), **wanted))
    draw(family, request(models))


def test_a_torn_image_is_refused_by_name(family: StableDiffusion, models: Models) -> None:
    torn = png(scene(1, (128, 128)))[:600]
    with pytest.raises(RequestRefused, match="image: the image is broken"):
        family.begin(request(models, "image_to_image", image=torn, width=32, height=32))
    with pytest.raises(EngineError, match=r"controls\[0\]\.image"):
        family.begin(request(models, "control", controls=(ControlInput("edges", torn),)))
