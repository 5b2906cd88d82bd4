"""What the larger families do besides drawing: padded canvases, adapters, ControlNets, tiles, offload."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from services.inference.catalog import Models
from services.inference.engine.autoencoder import Autoencoder
from services.inference.engine.errors import RequestRefused
from services.inference.engine.families import load_family, use_threads
from services.inference.engine.family_latent import LatentFamily
from services.inference.engine.loading import load_pipeline, placed, widen_vae
from services.inference.engine.manifest import Model, read_models
from services.inference.engine.request import ControlInput, LoraUse, Margins
from services.inference.engine.speed import compile_denoiser, quicken
from tests.inference.test_large_families import draw, half_mask, photograph, pixels, request
from tests.inference.tiny import lib
from tests.inference.tiny_families import write_tiny_family

NAMES = ["sdxl", "sd3", "flux-dev"]
LORA = "loras: {style: {path: loras/style}}\n"
CONTROL = "controls: {edges: {path: controls/edges}}\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Each with a LoRA; SDXL also with a ControlNet."""
    root = tmp_path_factory.mktemp("families")
    for name in NAMES:
        folder = write_tiny_family(root / name, name)
        text = (folder / "model.yaml").read_text() + LORA
        if name == "sdxl":
            text = text.replace("upscale]", "upscale, control]") + CONTROL
        (folder / "model.yaml").write_text(text)
        write_extras(read_models(root)[name])
    return Models(read_models(root), draw_seed=lambda: 1234)


@pytest.fixture(scope="module")
def families(models: Models) -> dict[str, LatentFamily]:
    use_threads(1)
    loaded: dict[str, Any] = {name: load_family(models.by_id[name], "cpu") for name in NAMES}
    return loaded


def bare(model: Model) -> Any:
    kinds = {
        "stable-diffusion-xl": lib.StableDiffusionXLPipeline,
        "stable-diffusion-3": lib.StableDiffusion3Pipeline,
        "flux": lib.FluxPipeline,
    }
    options = {"add_watermarker": False} if model.manifest.id == "sdxl" else {}
    pipeline = load_pipeline(kinds[model.manifest.family], model, "cpu", options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_extras(model: Model) -> None:
    torch.manual_seed(1)
    pipeline = bare(model)
    part = "unet" if model.manifest.id == "sdxl" else "transformer"
    denoiser = getattr(pipeline, part)
    if part == "unet":
        net = lib.ControlNetModel.from_unet(denoiser, conditioning_embedding_out_channels=(8, 16, 16))
        with torch.no_grad():
            for weights in net.parameters():  # ControlNets begin with zeros; that of a test must do something
                weights.add_(torch.randn_like(weights) * 0.05)
        net.save_pretrained(model.folder / "controls" / "edges")
    denoiser.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "one")
    layers = {f"{part}_lora_layers": get_peft_model_state_dict(denoiser, adapter_name="one")}
    type(pipeline).save_lora_weights(str(model.folder / "loras" / "style"), **layers)


@pytest.mark.parametrize("name", NAMES)
def test_outpainting_keeps_the_picture_and_upscaling_enlarges_it(
    families: dict[str, LatentFamily], models: Models, name: str
) -> None:
    margins = Margins(right=32)
    wide = request(models, name, operation="outpaint", image=photograph(), margins=margins, seed=3)
    assert draw(families[name], wide)[0].shape == (32, 64, 3)
    large = request(models, name, operation="upscale", image=photograph(), upscale_factor=2, seed=3)
    assert draw(families[name], large)[0].shape == (64, 64, 3)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_is_laid_over_as_the_bare_pipeline_does(
    families: dict[str, LatentFamily], models: Models, name: str
) -> None:
    adapted = request(models, name, seed=5, loras=(LoraUse("style", 0.8),))
    drawn, plain = draw(families[name], adapted)[0], draw(families[name], request(models, name, seed=5))[0]
    pipeline = bare(models.by_id[name])
    pipeline.load_lora_weights(str(models.by_id[name].folder / "loras" / "style"), adapter_name="style")
    pipeline.set_adapters(["style"], [0.8])
    theirs = pipeline(
        adapted.prompt,
        width=32,
        height=32,
        num_inference_steps=adapted.steps,
        guidance_scale=adapted.guidance,
        generator=[torch.Generator("cpu").manual_seed(5)],
        output_type="np",
    ).images[0]
    assert abs(drawn - (theirs * 255).round()).max() <= 1
    assert (drawn != plain).any()


def test_a_control_steers_sdxl_as_the_bare_pipeline_does(families: dict[str, LatentFamily], models: Models) -> None:
    drawing = request(models, "sdxl", operation="control", controls=(ControlInput("edges", photograph(), 0.7),), seed=5)
    net = lib.ControlNetModel.from_pretrained(str(models.by_id["sdxl"].folder / "controls" / "edges"))
    pipeline = lib.StableDiffusionXLControlNetPipeline(
        **bare(models.by_id["sdxl"]).components, controlnet=net, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        drawing.prompt,
        image=lib.utils.load_image(_image(drawing.controls[0].image)),
        num_inference_steps=drawing.steps,
        guidance_scale=drawing.guidance,
        controlnet_conditioning_scale=0.7,
        generator=[torch.Generator("cpu").manual_seed(5)],
        output_type="np",
    ).images[0]
    ours = draw(families["sdxl"], drawing)[0]
    assert abs(ours - (theirs * 255).round()).max() <= 1
    assert (ours != draw(families["sdxl"], request(models, "sdxl", seed=5))[0]).any()


def _image(data: bytes) -> Any:
    from PIL import Image

    return Image.fromarray(pixels(data).astype(np.uint8))


def test_what_is_fused_takes_no_adapter(families: dict[str, LatentFamily], models: Models) -> None:
    model = models.by_id["flux-dev"]
    manifest = model.manifest.model_copy(update={"fuse_qkv": True, "loras": {}})
    fused = type(families["flux-dev"])(Model(manifest=manifest, folder=model.folder), bare(model), "cpu")
    with pytest.raises(RequestRefused, match="lora style of flux-dev takes no loras: its attention is fused"):
        fused.begin(request(models, "flux-dev", loras=(LoraUse("style"),)))


def test_fusing_changes_nothing_that_is_drawn(families: dict[str, LatentFamily], models: Models) -> None:
    for name in NAMES:
        model = models.by_id[name]
        family = type(families[name])(model, bare(model), "cpu")
        getattr(family._pipe, family.part).fuse_qkv_projections()
        drawing = request(models, name, seed=4)
        assert (
            abs(draw(family, drawing)[0] - draw(families[name], drawing)[0]).max() <= 4
        )  # the same sums in another order


def test_compiled_it_draws_the_same(families: dict[str, LatentFamily], models: Models) -> None:
    """By the tracer alone: machine code would take a minute."""
    name = "flux-dev"
    model = models.by_id[name]
    family = type(families[name])(model, bare(model), "cpu")
    compile_denoiser(getattr(family._pipe, family.part), {"backend": "eager"})
    drawing = request(models, name, seed=4, steps=2)
    assert abs(draw(family, drawing)[0] - draw(families[name], drawing)[0]).max() <= 1


def test_a_large_picture_goes_through_the_vae_in_tiles(families: dict[str, LatentFamily]) -> None:
    vae = families["sdxl"]._pipe.vae
    whole, tiled = (Autoencoder(vae, "cpu", tiled_above=side) for side in (64, 63))
    picture = _image(photograph(64, 64))
    with torch.inference_mode():
        latents = [each.encode(picture, (64, 64), [torch.Generator().manual_seed(1)]) for each in (whole, tiled)]
        decoded = [each.decode(latents[0]) for each in (whole, tiled)]
    assert latents[0].shape == latents[1].shape
    assert decoded[0].shape == decoded[1].shape
    assert not torch.equal(decoded[0], decoded[1])  # tiles know less of each other
    assert (decoded[0] - decoded[1]).abs().mean() < decoded[0].std()


@pytest.mark.parametrize(
    ("name", "dtype"), [("sdxl", torch.float16), ("sd3", torch.bfloat16), ("flux-dev", torch.bfloat16)]
)
@pytest.mark.parametrize("operation", ["text_to_image", "image_to_image", "inpaint"])
def test_in_half_precision_it_draws_nearly_the_same(
    families: dict[str, LatentFamily], models: Models, name: str, dtype: torch.dtype, operation: str
) -> None:
    given: dict[str, Any] = {} if operation == "text_to_image" else {"image": photograph()}
    given |= {"mask": half_mask()} if operation == "inpaint" else {}
    half = type(families[name])(models.by_id[name], bare(models.by_id[name]).to(dtype), "cpu")
    drawing = request(models, name, seed=4, operation=operation, **given)
    assert abs(draw(half, drawing)[0] - draw(families[name], drawing)[0]).mean() < 3


class Recorder:
    """A pipeline that keeps what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def to(self, device: str) -> Recorder:
        self.asked.append(("to", device))
        return self

    def enable_model_cpu_offload(self, device: str) -> None:
        self.asked.append(("model", device))

    def enable_sequential_cpu_offload(self, device: str) -> None:
        self.asked.append(("sequential", device))


@pytest.mark.parametrize(
    ("offload", "device", "asked"),
    [
        ("none", "cuda", ("to", "cuda")),
        ("model", "cuda", ("model", "cuda")),
        ("sequential", "cuda", ("sequential", "cuda")),
        ("model", "cpu", ("to", "cpu")),
    ],
)
def test_weights_go_where_the_manifest_says(offload: str, device: str, asked: tuple[str, str]) -> None:
    pipeline = Recorder()
    placed(pipeline, offload, device)
    assert pipeline.asked == [asked]


def test_on_the_cpu_nothing_is_compiled_or_laid_out(models: Models) -> None:
    manifest = models.by_id["flux-dev"].manifest.model_copy(update={"compile": True, "fuse_qkv": True})
    quicken(None, "transformer", manifest, "cpu")


def test_a_vae_that_overflows_stays_wide(families: dict[str, LatentFamily], models: Models) -> None:
    pipeline = bare(models.by_id["sdxl"])
    pipeline.vae.to(torch.float16)
    widen_vae(pipeline)
    assert pipeline.vae.dtype is torch.float32


def test_offloaded_stages_take_turns(families: dict[str, LatentFamily], models: Models) -> None:
    model = models.by_id["flux-dev"]
    manifest = model.manifest.model_copy(update={"offload": "model"})
    family = type(families["flux-dev"])(Model(manifest=manifest, folder=model.folder), bare(model), "cpu")
    drawing = request(models, "flux-dev", operation="inpaint", image=photograph(), mask=half_mask(), seed=4)
    assert abs(draw(family, drawing)[0] - draw(families["flux-dev"], drawing)[0]).max() <= 1
