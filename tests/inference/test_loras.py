"""Which LoRAs a model has, as their files come, change and go; no weights are read for that."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.inference.catalog import Models
from services.inference.engine.loras import MOST_BYTES, LoraShelf
from services.inference.engine.manifest import read_model, read_models
from services.inference.engine.request import LoraUse, Wanted
from tests.inference.guided import write_lora_file
from tests.inference.tiny import model_yaml

NAMED = """\
loras:
  far: {hub: somebody/style, revision: 0123abcd, file: style.safetensors}
  near: {path: styles/near}
"""
LORA = "unet.one.lora_A.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(model_yaml("m") + NAMED)
    (folder / "model_index.json").write_text("{}")
    return folder


def usable(shelf: LoraShelf) -> list[str]:
    return [name for name, source in shelf.look().items() if not source.fault]


def test_files_and_folders_come_and_go(folder: Path) -> None:
    shelf = LoraShelf(read_model(folder))
    assert usable(shelf) == ["far"]
    write_lora_file(folder / "loras" / "ink.safetensors")
    write_lora_file(folder / "loras" / "oil.v2" / "any name.safetensors")
    write_lora_file(folder / "styles" / "near" / "pytorch_lora_weights.safetensors")
    (folder / "loras" / "README.md").write_text("not one")
    (folder / "loras" / ".ink.safetensors.part").touch()
    assert usable(shelf) == ["far", "ink", "near", "oil.v2"]
    assert list(shelf.seen) == usable(shelf)
    (folder / "loras" / "ink.safetensors").unlink()
    assert usable(shelf) == ["far", "near", "oil.v2"]


def test_other_weights_are_told_by_the_stamp(folder: Path) -> None:
    shelf, file = LoraShelf(read_model(folder)), folder / "loras" / "ink.safetensors"
    write_lora_file(file)
    first = shelf.look()["ink"].stamp
    assert shelf.look()["ink"].stamp == first
    write_lora_file(folder / "new")
    os.replace(folder / "new", file)
    assert shelf.look()["ink"].stamp != first


@pytest.mark.parametrize(
    ("name", "tensors", "fault"),
    [
        ("Ink", (LORA,), "has a name that is not lower-case"),
        ("ink", ("unet.one.weight",), "is no LoRA: ink.safetensors holds other weights"),
        ("ink", (LORA, "unet.one.weight"), "holds other weights"),
        ("ink", ("lora_unet_one.lora_down.weight", "lora_unet_one.dora_scale"), "is a DoRA"),
    ],
)
def test_a_file_that_is_no_lora_says_so(folder: Path, name: str, tensors: tuple[str, ...], fault: str) -> None:
    write_lora_file(folder / "loras" / f"{name}.safetensors", *tensors)
    assert fault in LoraShelf(read_model(folder)).look()[name].fault


@pytest.mark.parametrize("data", [b"", b"\x00" * 8, b"\xff" * 30, b"\x02" + b"\x00" * 7 + b"[]", b"\x04" + b"\x00" * 7])
def test_a_file_that_is_no_safetensors_file_is_broken(folder: Path, data: bytes) -> None:
    file = folder / "loras" / "ink.safetensors"
    file.parent.mkdir()
    file.write_bytes(data)
    assert "is broken: ink.safetensors" in LoraShelf(read_model(folder)).look()["ink"].fault


def test_a_file_is_taken_once_it_is_whole(folder: Path) -> None:
    shelf, file = LoraShelf(read_model(folder)), folder / "loras" / "ink.safetensors"
    write_lora_file(file)
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    assert "is broken" in shelf.look()["ink"].fault
    file.write_bytes(data)
    assert usable(shelf) == ["far", "ink"]


def test_a_folder_has_one_file_or_the_usual_one(folder: Path) -> None:
    shelf, lora = LoraShelf(read_model(folder)), folder / "loras" / "ink"
    lora.mkdir(parents=True)
    assert "no .safetensors file in ink" in shelf.look()["ink"].fault
    for name in ("a", "b"):
        write_lora_file(lora / f"{name}.safetensors")
    assert "has several files in ink" in shelf.look()["ink"].fault
    write_lora_file(lora / "pytorch_lora_weights.safetensors")
    assert shelf.look()["ink"].file == lora / "pytorch_lora_weights.safetensors"


def test_a_whole_model_is_no_lora(folder: Path) -> None:
    file = folder / "loras" / "ink.safetensors"
    write_lora_file(file)
    with file.open("r+b") as opened:
        opened.truncate(MOST_BYTES + 1)  # a sparse file: it takes no room
    assert LoraShelf(read_model(folder)).look()["ink"].fault == "is no LoRA: 4.0 GiB"


@pytest.mark.parametrize("field", ["fuse_qkv: true", "offload: model", "device_map: balanced"])
def test_where_none_can_be_laid_over_there_are_none(folder: Path, field: str) -> None:
    (folder / "model.yaml").write_text(f"{model_yaml('m')}{field}\n")
    write_lora_file(folder / "loras" / "ink.safetensors")
    assert LoraShelf(read_model(folder)).look() == {}


def test_a_models_version_is_that_of_its_own_weights(folder: Path) -> None:
    before = read_model(folder).version()
    write_lora_file(folder / "loras" / "ink.safetensors")
    assert read_model(folder).version() == before
    write_lora_file(folder / "unet.safetensors")
    assert read_model(folder).version() != before


def test_requests_are_settled_against_the_last_look(folder: Path) -> None:
    models = Models(read_models(folder.parent), draw_seed=lambda: 1)
    write_lora_file(folder / "loras" / "ink.safetensors")
    own = models.get("m")
    assert own.loras == ("far",)
    own.look()
    assert own.loras == ("far", "ink")
    assert models.settle(Wanted("m", "a star", loras=(LoraUse("ink"),)), "").loras == (LoraUse("ink"),)
