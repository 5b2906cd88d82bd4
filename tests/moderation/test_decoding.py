"""What pictures of every kind look like to the layers, and what decoding them may cost."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from mesh.errors import InvalidArgument
from services.moderation.decoding import SIDE, inspect
from tests.moderation.pictures import encode, scene

RED, GREEN = (220, 20, 20), (20, 200, 20)
SECONDS = 20.0  # far above what any of them takes here


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """The left half red, the right half green."""
    image = Image.new("RGB", (200, 100), RED)
    image.paste(GREEN, (100, 0, 200, 100))
    return image.convert(mode)


KINDS = {
    "CMYK JPEG": saved(halves("CMYK"), "JPEG", quality=95),
    "16-bit PNG": encode(scene(1).colourspace("rgb16")),
    "16-bit grey PNG": encode(scene(1).colourspace("grey16")),
    "grey PNG": saved(halves("L"), "PNG"),
    "grey with alpha": saved(halves("LA"), "PNG"),
    "palette PNG": saved(halves("P"), "PNG"),
    "one bit": saved(halves("1"), "PNG"),
    "alpha": saved(halves("RGBA"), "PNG"),
    "WebP with alpha": saved(halves("RGBA"), "WEBP", lossless=True),
    "progressive JPEG": saved(halves(), "JPEG", progressive=True),
}


@pytest.mark.parametrize("data", KINDS.values(), ids=KINDS)
def test_every_kind_becomes_eight_bits_of_three_colours(data: bytes) -> None:
    for view in inspect(data).picture.views:
        assert view.dtype == np.uint8
        assert view.shape[2] == 3


def test_cmyk_keeps_its_colours() -> None:
    view = inspect(KINDS["CMYK JPEG"]).picture.views[0]
    left, right = view[50, 40].astype(int), view[50, -40].astype(int)
    assert left[0] > left[1] + 60
    assert right[1] > right[0] + 60


def test_colours_under_full_transparency_are_looked_at() -> None:
    hidden = halves("RGBA")
    hidden.putalpha(0)
    shown, bare = (view for view in inspect(saved(hidden, "PNG")).picture.views if view.shape[:2] == (100, 200))
    assert shown.min() == 255
    assert tuple(bare[50, 40]) == RED


def test_an_opaque_alpha_costs_nothing() -> None:
    assert len(inspect(KINDS["alpha"]).picture.views) == len(inspect(saved(halves(), "PNG")).picture.views)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_views_are_upright(orientation: int) -> None:
    """Stored as a camera held that way stores it, and looked at as people see it."""
    upright = Image.new("RGB", (120, 100), RED)
    upright.paste(GREEN, (0, 0, 60, 50))  # the upper left quarter
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    view = inspect(saved(stored, "JPEG", quality=95, exif=exif)).picture.views[0]
    assert view.shape == (100, 120, 3)
    assert view[20, 20, 1] > 150
    assert view[80, 100, 0] > 150
    assert view[20, 100, 0] > 150


@pytest.mark.parametrize(("size", "squares"), [((640, 480), 0), ((1200, 600), 2), ((300, 1500), 4), ((4000, 40), 4)])
def test_a_long_picture_is_looked_at_in_squares_too(size: tuple[int, int], squares: int) -> None:
    width, height = size
    ramp = np.tile(np.linspace(0, 255, max(size)).astype(np.uint8), (min(size), 1))
    pixels = ramp if width > height else ramp.T
    views = inspect(saved(Image.fromarray(np.ascontiguousarray(pixels)), "PNG")).picture.views
    assert len(views) == 1 + squares
    if squares:  # both ends are in them
        assert min(int(view.min()) for view in views[1:]) <= 2
        assert max(int(view.max()) for view in views[1:]) >= 253


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_huge_picture_takes_bounded_time_and_memory(suffix: str) -> None:
    data = encode(scene(1, 5_000), suffix)
    started = time.monotonic()
    seen = inspect(data)
    assert time.monotonic() - started < SECONDS
    assert sum(view.nbytes for view in seen.picture.views) < 2_000_000
    assert all(SIDE <= side < 2 * SIDE for side in seen.picture.views[0].shape[:2])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 5_000), (5_000, 1)])
def test_a_tiny_picture_is_looked_at(size: tuple[int, int]) -> None:
    views = inspect(saved(Image.new("RGBA", size, (1, 2, 3, 100)), "PNG")).picture.views
    assert views
    assert all(view.size for view in views)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_any_truncation_is_a_typed_error(suffix: str, kept: float) -> None:
    data = encode(scene(3, 600), suffix)
    with pytest.raises(InvalidArgument) as raised:
        inspect(data[: int(len(data) * kept)])
    assert raised.value.reason == "IMAGE_UNREADABLE"
