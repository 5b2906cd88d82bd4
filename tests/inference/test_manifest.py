"""`model.yaml` and the requests that are settled against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.inference.catalog import Models
from services.inference.engine import codec
from services.inference.engine.errors import (
    EngineError,
    EngineFailed,
    EngineFull,
    ModelNotLoaded,
    ModelUnknown,
    RequestRefused,
)
from services.inference.engine.facts import Fact, Finished, Load, Memory, Picture, Progress, Stage
from services.inference.engine.manifest import Manifest, ManifestError, SizeRule, read_model, read_models
from services.inference.engine.request import Wanted
from services.inference.engine.settling import settle
from tests.conftest import ROOT

GOOD: dict[str, Any] = {
    "id": "m",
    "display_name": "M",
    "family": "stable-diffusion",
    "weights": {"path": "."},
    "size": {"min": 16, "max": 128, "factor": 8},
    "defaults": {"width": 32, "height": 64, "steps": 20, "guidance": 5, "scheduler": "ddim"},
    "schedulers": ["ddim", "lcm"],
    "max_steps": 100,
    "max_count": 4,
    "license": "Apache-2.0",
}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(yaml.safe_dump({**GOOD, "id": folder.name, **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": "other"}, "folder is called"),
        ({"weights": {}}, "exactly one of `path` and `hub`"),
        ({"weights": {"hub": "a/b"}}, "pinned `revision`"),
        ({"family": "cubism"}, "family"),
        ({"schedulers": ["ddim", "magic"]}, "unknown schedulers magic"),
        ({"schedulers": ["lcm"]}, "default scheduler ddim"),
        ({"max_count": 9}, "max_count"),
        ({"gpu_second_price_usd": "cheap"}, "gpu_second_price_usd"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ManifestError, match=named):
        read_model(write(tmp_path / "m", **changes))


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nowhere.*model\.yaml"):
        read_model(tmp_path / "nowhere")
    (write(tmp_path / "m") / "model.yaml").write_text("id: [")
    with pytest.raises(ManifestError, match=r"model\.yaml"):
        read_models(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"defaults": {**GOOD["defaults"], "width": 33}}, "the default size 33 x 64 is none that `size` allows"),
        ({"defaults": {**GOOD["defaults"], "height": 256}}, "the default size 32 x 256 is none"),
        ({"size": {"min": 64, "max": 16}}, "the default size"),
        ({"max_steps": 10}, "the default of 20 steps is above `max_steps`"),
    ],
)
def test_defaults_that_would_be_refused_are_a_mistake(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ManifestError, match=named):
        read_model(write(tmp_path / "m", **changes))


def test_default_steps_go_as_far_as_the_scheduler(tmp_path: Path) -> None:
    slow = manifest(defaults={**GOOD["defaults"], "steps": 80})
    assert settle(Wanted("m", "a star"), slow, lambda: 0).steps == 80
    assert settle(Wanted("m", "a star", scheduler="lcm"), slow, lambda: 0).steps == 50


def test_the_version_follows_the_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "m")
    (folder / "unet.safetensors").write_bytes(b"one")
    before = read_model(folder).version()
    assert before == read_model(folder).version()
    (folder / "unet.safetensors").write_bytes(b"two")
    assert read_model(folder).version() != before
    write(folder, weights={"hub": "a/b", "revision": "0123abc"})
    assert read_model(folder).version() == "0123abc"
    assert read_model(folder).has_weights


def test_the_repositorys_own_models_are_valid() -> None:
    assert "demo" in read_models(ROOT / "models")


@pytest.mark.parametrize(("value", "snapped"), [(16, 16), (17, 16), (23, 16), (24, 24), (127, 120)])
def test_sizes_snap_down(value: int, snapped: int) -> None:
    assert SizeRule(min=16, max=128, factor=8, policy="snap").snap(value) == snapped


def test_a_size_never_snaps_below_the_smallest() -> None:
    assert SizeRule(min=20, max=128, factor=8, policy="snap").snap(20) == 24


def manifest(**changes: Any) -> Manifest:
    return Manifest.model_validate({**GOOD, **changes})


def test_defaults_fill_what_is_not_said() -> None:
    drawing = settle(Wanted("m", "a star"), manifest(), lambda: 77)
    assert (drawing.width, drawing.height, drawing.steps, drawing.guidance) == (32, 64, 20, 5.0)
    assert (drawing.scheduler, drawing.seed, drawing.count) == ("ddim", 77, 1)
    assert settle(Wanted("m", "a star", seed=0, guidance=0.0), manifest(), lambda: 77).seed == 0


def test_sizes_snap_where_the_model_says_so() -> None:
    snapping = manifest(size={"min": 16, "max": 128, "factor": 8, "policy": "snap"})
    drawing = settle(Wanted("m", "a star", width=33, height=127), snapping, lambda: 0)
    assert (drawing.width, drawing.height) == (32, 120)


@pytest.mark.parametrize(
    ("wanted", "field", "fix"),
    [
        ({"width": 33}, "width", "multiple of 8, for example 32"),
        ({"height": 129}, "height", "16 to 128"),
        ({"width": 8}, "width", "16 to 128"),
        ({"count": 5}, "count", "at most 4"),
        ({"steps": 101}, "steps", "1 to 100"),
        ({"steps": 0}, "steps", "1 to 100"),
        ({"steps": 51, "scheduler": "lcm"}, "steps", "1 to 50"),
        ({"scheduler": "euler"}, "scheduler", "one of ddim, lcm"),
        ({"operation": "inpaint"}, "operation", "can do text_to_image"),
    ],
)
def test_what_a_model_cannot_do_is_refused(wanted: dict[str, Any], field: str, fix: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        settle(Wanted("m", "a star", **wanted), manifest(), lambda: 0)
    [violation] = refusal.value.violations
    assert violation.field == field
    assert fix in violation.fix


def test_every_misfit_is_told_at_once() -> None:
    with pytest.raises(RequestRefused) as refusal:
        settle(Wanted("m", "a star", width=1, height=1, count=8, scheduler="x"), manifest(), lambda: 0)
    assert [v.field for v in refusal.value.violations] == ["width", "height", "count", "scheduler"]


def test_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "watercolour")
    models = Models(read_models(tmp_path))
    with pytest.raises(ModelUnknown) as refusal:
        models.settle(Wanted("watercolor", "a star"), "")
    assert refusal.value.nearest == ("watercolour",)
    with pytest.raises(ModelNotLoaded):
        models.settle(Wanted("watercolour", "a star"), "another version")


@pytest.mark.parametrize(
    "fact",
    [
        Progress(3, 9),
        Picture(1, 2**32 - 1, 64, 32, b"\x89PNG\x00\xff"),
        Finished(9, 0.25, (Stage("queue", 1, 2, {}), Stage("denoise", 2, 5, {"steps": 9, "mean": 1.5}))),
    ],
)
def test_facts_survive_the_way_through_triton(fact: Fact) -> None:
    assert codec.decode_fact(*codec.encode_fact(fact)) == fact


@pytest.mark.parametrize("error", [EngineFull("full"), EngineFailed("broke"), ModelNotLoaded("no")])
def test_errors_survive_the_way_through_triton(error: EngineError) -> None:
    arrived = codec.decode_fact(*codec.encode_fact(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)


def test_requests_and_loads_survive_the_way_through_triton() -> None:
    drawing = settle(Wanted("m", "ein Stern, größer"), manifest(), lambda: 5)
    assert codec.decode_request(codec.encode_request(drawing)) == drawing
    load, memory = Load(1, 2, 3, 4, 5, ("a", "b")), Memory("cpu", 10, 5)
    assert codec.decode_load(codec.encode_load(load, memory)) == (load, memory)
