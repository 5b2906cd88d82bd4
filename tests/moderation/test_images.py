"""Pictures: what is decoded, what is refused, and which blocked picture is found again."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from mesh.errors import InvalidArgument
from services.moderation.decoding import inspect
from services.moderation.perceptual import BlockedHash, Fingerprint, HashTable, fingerprint
from services.moderation.verdicts import Category
from tests.moderation.pictures import (
    TRANSFORMS,
    animated_png,
    animated_webp,
    encode,
    flat,
    png_header,
    scene,
)

DISTANCE = 8  # of the default policy
UNREADABLE = {
    "text": b"this is no picture",
    "empty PNG": b"\x89PNG\r\n\x1a\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "GIF": encode(scene(1), ".gif"),
    "truncated PNG": encode(scene(1))[:-400],
    "PNG cut in half": encode(scene(1))[: len(encode(scene(1))) // 2],
    "truncated JPEG": encode(scene(1), ".jpg")[:-600],
    "truncated WebP": encode(scene(1), ".webp")[:-200],
    "animated PNG": animated_png(scene(1)),
    "animated WebP": animated_webp(scene(1), scene(2)),
    "PNG of zeros after its header": encode(scene(1))[:60] + b"\0" * 500,
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable(data: bytes) -> None:
    with pytest.raises(InvalidArgument) as raised:
        inspect(data)
    assert raised.value.reason == "IMAGE_UNREADABLE"


def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(InvalidArgument) as raised:
        inspect(png_header(30_000, 30_000))
    assert raised.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (31, 33), (640, 480)])
def test_any_shape_is_taken(shape: tuple[int, int]) -> None:
    width, height = shape
    picture = scene(1, 64).resize(width / 64, vscale=height / 64)
    seen = inspect(encode(picture))
    assert (seen.picture.width, seen.picture.height) == (width, height)


def blocked(picture: bytes, hash_id: str = "bhs_1") -> HashTable:
    seen = inspect(picture)
    return HashTable(1, [BlockedHash(hash_id, Category.GORE, seen.fingerprint.hashes[0])])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_blocked_picture_is_found_again(seed: int, transform: str) -> None:
    original = scene(seed)
    again = inspect(TRANSFORMS[transform](original))
    match = blocked(encode(original)).find(again.fingerprint, again.sha256, DISTANCE)
    assert match is not None
    assert match.blocked.hash_id == "bhs_1"


def test_unrelated_pictures_are_not_found() -> None:
    table = HashTable(
        1,
        [
            BlockedHash(str(seed), Category.GORE, inspect(encode(scene(seed))).fingerprint.hashes[0])
            for seed in range(40)
        ],
    )
    for seed in range(100, 160):
        seen = inspect(encode(scene(seed)))
        assert table.find(seen.fingerprint, seen.sha256, DISTANCE) is None, seed


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_matches_only_its_own_bytes(level: int) -> None:
    data = encode(flat(level=level))
    seen = inspect(data)
    assert not seen.fingerprint.comparable
    hashes = [BlockedHash("a", Category.GORE, 0), BlockedHash("b", Category.GORE, (1 << 64) - 1)]
    assert HashTable(1, hashes).find(seen.fingerprint, seen.sha256, 16) is None
    same = HashTable(1, [BlockedHash("c", Category.GORE, None, seen.sha256)])
    found = same.find(seen.fingerprint, seen.sha256, 0)
    assert found is not None
    assert found.distance == 0


def test_a_gradient_is_too_flat_to_compare() -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    assert not fingerprint(ramp).comparable


def test_the_first_hash_is_the_librarys_own() -> None:
    grey = np.asarray(
        Image.fromarray(np.random.default_rng(7).integers(0, 255, (8, 8), dtype=np.uint8)).resize((64, 64))
    )
    library = imagehash.phash(Image.fromarray(grey))
    assert f"{fingerprint(grey).hashes[0]:016x}" == str(library)


@pytest.mark.parametrize("seed", range(6))
def test_a_hash_made_with_the_library_itself_is_found(seed: int) -> None:
    data = encode(scene(seed))
    library = imagehash.phash(Image.open(io.BytesIO(data)))
    table = HashTable(1, [BlockedHash("theirs", Category.GORE, int(str(library), 16))])
    assert table.find(inspect(data).fingerprint, "", DISTANCE) is not None


def test_eight_orientations_of_a_picture_have_the_same_hashes() -> None:
    grey = np.asarray(
        Image.fromarray(np.random.default_rng(9).integers(0, 255, (8, 8), dtype=np.uint8)).resize((64, 64))
    )
    upright = fingerprint(grey)
    assert len(set(upright.hashes)) == 8
    for turned in (np.rot90(grey), np.rot90(grey, 2), np.fliplr(grey), grey.T):
        assert set(fingerprint(np.ascontiguousarray(turned)).hashes) == set(upright.hashes)


def test_an_empty_table_finds_nothing() -> None:
    assert HashTable(1, []).find(Fingerprint((1, 2, 3)), "", 16) is None


def test_the_nearest_of_many_is_found() -> None:
    entries = [BlockedHash(str(n), Category.GORE, 0xFFFF_0000_FFFF_0000 ^ ((1 << n) - 1)) for n in range(10)]
    match = HashTable(1, entries).find(Fingerprint((0xFFFF_0000_FFFF_0000 ^ 0b111,)), "", 8)
    assert match is not None
    assert (match.blocked.hash_id, match.distance) == ("3", 0)
