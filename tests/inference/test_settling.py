"""What each operation needs, and what is said about requests that do not fit."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from services.inference.engine import codec
from services.inference.engine.canvas import canvas_of
from services.inference.engine.errors import RequestRefused, Violation
from services.inference.engine.facts import Preview
from services.inference.engine.images import BadImage, decoded, size_of
from services.inference.engine.loras import LoraSource
from services.inference.engine.manifest import Manifest
from services.inference.engine.request import ControlInput, DrawRequest, Lane, LoraUse, Margins, Wanted
from services.inference.engine.settling import settle
from tests.inference.test_manifest import GOOD

EVERYTHING: dict[str, Any] = {
    **GOOD,
    "capabilities": ["text_to_image", "image_to_image", "inpaint", "outpaint", "control", "upscale"],
    "controls": {"edges": {"path": "controls/edges"}},
}
THERE = {"neon": LoraSource(), "ink.2": LoraSource(), "torn": LoraSource(fault="is broken")}
SNAP = {"min": 16, "max": 128, "factor": 8, "policy": "snap"}


def image(width: int = 32, height: int = 48, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, kind, **options)
    return buffer.getvalue()


def turned(width: int, height: int) -> bytes:
    """A photograph that a viewer turns by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return image(width, height, "JPEG", exif=exif)


def settled(manifest: dict[str, Any] | None = None, **wanted: Any) -> DrawRequest:
    values = {"model_id": "m", "prompt": "a star", **wanted}
    return settle(Wanted(**values), Manifest.model_validate({**EVERYTHING, **(manifest or {})}), lambda: 77, THERE)


@pytest.mark.parametrize(
    ("wanted", "size", "strength"),
    [
        ({}, (32, 64), 1.0),
        ({"operation": "image_to_image", "image": image()}, (32, 48), 0.8),
        ({"operation": "image_to_image", "image": image(), "width": 64, "height": 16}, (64, 16), 0.8),
        ({"operation": "image_to_image", "image": turned(32, 48), "strength": 0.5}, (48, 32), 0.5),
        ({"operation": "inpaint", "image": image(), "mask": image(8, 8)}, (32, 48), 1.0),
        ({"operation": "outpaint", "image": image(), "margins": Margins(left=8, bottom=16)}, (40, 64), 1.0),
        ({"operation": "upscale", "image": image(), "upscale_factor": 2}, (64, 96), 0.2),
        ({"operation": "upscale", "image": image(16, 24)}, (32, 48), 0.2),
        ({"operation": "control", "controls": (ControlInput("edges", image()),)}, (32, 64), 1.0),
        ({"operation": "control", "controls": (ControlInput("edges", image()),), "image": image()}, (32, 48), 0.8),
    ],
)
def test_every_operation_settles_its_size_and_strength(
    wanted: dict[str, Any], size: tuple[int, int], strength: float
) -> None:
    drawing = settled(**wanted)
    assert ((drawing.width, drawing.height), drawing.strength) == (size, strength)
    assert codec.decode_request(codec.encode_request(drawing)) == drawing


@pytest.mark.parametrize(
    ("own", "size"),
    [((32, 48), (32, 48)), ((37, 50), (32, 48)), ((1000, 500), (128, 64)), ((8, 4), (32, 16)), ((4000, 20), (128, 16))],
)
def test_a_snapping_model_scales_the_image_into_its_range(own: tuple[int, int], size: tuple[int, int]) -> None:
    drawing = settled({"size": SNAP}, operation="image_to_image", image=image(*own))
    assert (drawing.width, drawing.height) == size


@pytest.mark.parametrize(
    ("wanted", "field", "fix"),
    [
        ({"operation": "image_to_image"}, "image", "is needed to image_to_image"),
        ({"image": image()}, "image", "leave it unset to text_to_image"),
        ({"operation": "inpaint", "image": image()}, "mask", "is needed"),
        ({"operation": "image_to_image", "image": image(), "mask": image()}, "mask", "leave it unset"),
        ({"operation": "image_to_image", "image": b"GIF89a"}, "image", "send a PNG, JPEG or WebP"),
        ({"operation": "image_to_image", "image": image(33, 32)}, "width", "multiple of 8, for example 32"),
        ({"operation": "inpaint", "image": image(), "mask": b""}, "mask", "send a PNG"),
        ({"operation": "outpaint", "image": image()}, "margins", "is needed"),
        (
            {"operation": "outpaint", "image": image(), "margins": Margins(left=-8, top=8)},
            "margins",
            "0 pixels or more",
        ),
        ({"operation": "outpaint", "image": image(), "margins": Margins(left=800)}, "image", "832 x 48 pixels"),
        ({"operation": "upscale", "image": image(64, 64), "upscale_factor": 4}, "image", "256 x 256 pixels"),
        ({"operation": "upscale", "image": image(16, 16), "upscale_factor": 5}, "upscale_factor", "2 to 4"),
        ({"upscale_factor": 2}, "upscale_factor", "leave it unset"),
        ({"strength": 0.5}, "strength", "leave it unset"),
        ({"operation": "image_to_image", "image": image(), "strength": 0.0}, "strength", "above 0"),
        ({"operation": "image_to_image", "image": image(), "strength": 1.5}, "strength", "at most 1"),
        ({"operation": "image_to_image", "image": image(), "strength": 0.1, "steps": 9}, "strength", "no step"),
        ({"operation": "control"}, "controls", "is needed"),
        (
            {"operation": "control", "controls": (ControlInput("edges", image()),), "strength": 0.5},
            "strength",
            "leave it unset to control without an image",
        ),
        ({"controls": (ControlInput("depth", image()),)}, "controls[0].kind", "one of edges"),
        ({"controls": (ControlInput("edges", image(), 2.5),)}, "controls[0].scale", "0 to 2"),
        ({"controls": (ControlInput("edges", b"?"),)}, "controls[0].image", "send a PNG"),
        ({"controls": (ControlInput("edges", image()),) * 5}, "controls", "at most 4"),
        ({"loras": (LoraUse("oil"),)}, "loras[0].lora_id", "one of neon, ink.2"),
        ({"loras": (LoraUse("neon"), LoraUse("torn"))}, "loras[1].lora_id", "torn is broken; must be one of neon"),
        ({"loras": (LoraUse("neon", -5.0),)}, "loras[0].scale", "-4 to 4"),
        ({"loras": (LoraUse("neon"), LoraUse("neon", 0.5))}, "loras", "each once"),
        ({"previews": 17}, "previews", "0 to 16"),
        ({"count": 0}, "count", "at most 4"),
        ({"steps": 10_000}, "steps", "1 to 100"),
        ({"steps": 0}, "steps", "1 to 100"),
        ({"scheduler": "magic"}, "scheduler", "one of ddim, lcm"),
        ({"operation": "dream"}, "operation", "can do text_to_image, image_to_image"),
    ],
)
def test_what_does_not_fit_is_named_with_its_fix(wanted: dict[str, Any], field: str, fix: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        settled(**wanted)
    told = {violation.field: violation.fix for violation in refusal.value.violations}
    assert set(told) == {field}
    assert fix in told[field]


@pytest.mark.parametrize("steps", range(1, 50))
def test_a_default_strength_makes_at_least_one_step(steps: int) -> None:
    for operation in ("image_to_image", "upscale"):
        drawing = settled(operation=operation, image=image(16, 24), steps=steps)
        assert 1 <= int(drawing.steps * drawing.strength) <= steps


def test_adapters_come_in_one_order_so_that_equal_sets_are_equal() -> None:
    one = settled(loras=(LoraUse("neon"), LoraUse("ink.2", 0.5)))
    assert one.loras == settled(loras=(LoraUse("ink.2", 0.5), LoraUse("neon"))).loras


def test_a_request_with_everything_survives_the_way_through_triton() -> None:
    drawing = settled(
        operation="inpaint", image=image(), mask=image(8, 8), lane=Lane.BATCH, previews=3, loras=(LoraUse("neon"),),
        controls=(ControlInput("edges", image(16, 16), 0.5), ControlInput("edges", image(24, 24))),
    )  # fmt: skip
    encoded = codec.encode_request(drawing)
    assert codec.decode_request(encoded) == drawing
    with pytest.raises(ValueError, match="bytes of images"):
        codec.decode_request(encoded[:-1])


def test_previews_and_refusals_survive_the_way_through_triton() -> None:
    preview = Preview(1, 5, b"\xff\xd8jpeg")
    assert codec.decode_fact(*codec.encode_fact(preview)) == preview
    arrived = codec.decode_fact(*codec.encode_fact(RequestRefused([Violation("image", "send another")])))
    assert isinstance(arrived, RequestRefused)
    assert arrived.violations == (Violation("image", "send another"),)


def test_the_canvas_of_an_outpainting_keeps_the_image_but_for_its_seams() -> None:
    drawing = settled(operation="outpaint", image=image(), margins=Margins(left=8, bottom=16))
    canvas = canvas_of(drawing)
    assert canvas is not None
    assert canvas.mask is not None
    assert canvas.image.size == canvas.mask.size == (40, 64)
    assert canvas.image.getcolors() == [(40 * 64, (255, 0, 0))]  # the edges go on
    kept = canvas.mask.point(lambda value: 255 - value).getbbox()
    assert kept == (16, 0, 40, 40)


def test_images_are_read_upright_and_opaque() -> None:
    assert size_of(turned(32, 48)) == decoded(turned(32, 48)).size == (48, 32)
    see_through = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(see_through, "PNG")
    assert decoded(see_through.getvalue()).getpixel((0, 0)) == (255, 255, 255)
    for kind in ("PNG", "JPEG", "WEBP"):
        assert decoded(image(kind=kind)).size == (32, 48)
    with pytest.raises(BadImage, match="broken"):
        decoded(image(512, 512, "JPEG")[:-200])


def test_too_many_pixels_are_refused_from_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.inference.engine.images.MOST_PIXELS", 1000)
    with pytest.raises(BadImage, match="megapixels"):
        size_of(image())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"capabilities": ["text_to_image", "control"], "controls": {}}, "need each other"),
        ({"capabilities": ["text_to_image"]}, "need each other"),
        ({"loras": {"Neon": {"path": "x"}}}, "loras"),
        ({"loras": {"neon": {"path": "x", "hub": "a/b"}}}, "exactly one"),
        ({"schedulers": ["ddim", "flow_match_euler"]}, "do not fit the family"),
        ({"family": "flux"}, "schedulers ddim, lcm do not fit"),
        ({"capabilities": ["text_to_image", "dream"]}, "capabilities"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_an_error(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Manifest.model_validate({**EVERYTHING, **changes})
