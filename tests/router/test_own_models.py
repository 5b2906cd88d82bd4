from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from imagemesh.inference.v1 import model_pb2

from mesh.errors import FailedPrecondition, Unavailable
from services.router.catalog_file import DEFAULT_CATALOG, load_catalog
from services.router.own_models import OwnModels, conflicts
from services.router.planning import Planner, PlanRequest
from services.router.specs import GenerationSpec, JobOptions, Lora

MANIFEST = Path(__file__).resolve().parents[2] / "models" / "demo" / "model.yaml"

DEMO: dict[str, Any] = {
    "modelId": "demo",
    "modelVersion": "abc",
    "capabilities": ["text_to_image", "image_to_image", "inpaint", "outpaint", "control", "upscale"],
    "controls": ["edges"],
    "loras": ["neon"],
    "upscaleFactors": [2, 3, 4],
    "size": {"min": 32, "max": 256, "factor": 8, "defaultSize": {"width": 64, "height": 64}},
    "maxCount": 8,
    "defaultSteps": 20,
    "maxSteps": 150,
    "schedulers": ["ddim", "euler", "euler_a", "dpmpp_2m", "unipc"],
}


def listed(**changes: Any) -> list[model_pb2.Model]:
    return [json_format.ParseDict({**DEMO, **changes}, model_pb2.Model())]


def found(models: list[model_pb2.Model]) -> list[str]:
    return [line for lines in conflicts(load_catalog(DEFAULT_CATALOG, {}), models).values() for line in lines]


def test_the_shipped_catalog_agrees_with_the_shipped_model() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    size, defaults = manifest["size"], manifest["defaults"]
    shipped = listed(
        capabilities=manifest["capabilities"],
        controls=[*manifest.get("controls", {})],
        loras=[*manifest.get("loras", {})],
        size={
            "min": size["min"],
            "max": size["max"],
            "factor": size["factor"],
            "defaultSize": {"width": defaults["width"], "height": defaults["height"]},
        },
        maxCount=manifest["max_count"],
        defaultSteps=defaults["steps"],
        maxSteps=manifest["max_steps"],
        schedulers=manifest["schedulers"],
    )
    assert found(shipped) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"modelId": "other"}, "the inference service has no model 'demo'"),
        ({"capabilities": []}, "operations: model.yaml says "),
        ({"size": {**DEMO["size"], "min": 64}}, "min_edge: model.yaml says at least 64"),
        ({"size": {**DEMO["size"], "max": 128}}, "max_edge: model.yaml says at most 128"),
        ({"size": {**DEMO["size"], "factor": 16}}, "edge_step: model.yaml says a multiple of 16"),
        ({"size": {**DEMO["size"], "defaultSize": {"width": 32, "height": 32}}}, "default_size: model.yaml says 32x32"),
        ({"maxCount": 4}, "count_per_call: model.yaml says at most 4"),
        ({"maxSteps": 100}, "max_steps: model.yaml says at most 100"),
        ({"defaultSteps": 30}, "default_steps: model.yaml says 30"),
        ({"schedulers": ["ddim"]}, "schedulers: model.yaml says ddim"),
    ],
)
def test_a_conflict_is_told(changes: dict[str, Any], told: str) -> None:
    (conflict,) = found(listed(**changes))
    assert told in conflict


ABLE = {"controls": ["edges"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"controls": []}, "controls: model.yaml says none"),
        ({"upscaleFactors": [4, 2]}, "upscale_factors: model.yaml says 4, 2"),
    ],
)
def test_what_guides_is_compared_too(tmp_path: Path, changes: dict[str, Any], told: str | None) -> None:
    document = yaml.safe_load(DEFAULT_CATALOG.read_text(encoding="utf-8"))
    (demo,) = (model for model in document["models"] if model["id"] == "demo")
    route = {"controls": ["edges"], "upscale_factors": [2]}
    demo["routes"][0]["capabilities"].update(route)
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    own = listed(**{**ABLE, **changes})
    lines = [line for lines in conflicts(load_catalog(tmp_path / "catalog.yaml", {}), own).values() for line in lines]
    assert [told in line for line in lines if told] == ([True] if told else [])
    assert bool(lines) is (told is not None)


class Engines:
    """What the inference service would answer."""

    def __init__(self) -> None:
        self.models: list[model_pb2.Model] | None = None

    async def ask(self) -> list[model_pb2.Model]:
        if self.models is None:
            raise Unavailable("inference is down", reason="PEER_UNAVAILABLE")
        return self.models


async def test_what_was_found_stays_until_the_next_answer() -> None:
    engines = Engines()
    own = OwnModels(load_catalog(DEFAULT_CATALOG, {}), engines.ask)
    assert await own.compare() is None
    await own.check()
    engines.models = listed(maxCount=4)
    line = "capabilities.count_per_call: model.yaml says at most 4"
    assert await own.compare() == (f"models.demo on imagemesh: {line}",)
    engines.models = None
    assert await own.compare() is None
    assert own.reasons == {("demo", "imagemesh"): line}
    with pytest.raises(FailedPrecondition, match="at most 4"):
        await own.check()
    engines.models = listed()
    assert await own.compare() == ()
    await own.check()


def test_a_provider_that_is_switched_off_is_not_compared(tmp_path: Path) -> None:
    document = yaml.safe_load(DEFAULT_CATALOG.read_text(encoding="utf-8"))
    document["providers"][0]["enabled"] = False
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert conflicts(load_catalog(tmp_path / "catalog.yaml", {}), []) == {}


PLACE = ("demo", "imagemesh")


@pytest.mark.parametrize(
    ("allowed", "there", "offered"),
    [
        (["*"], ["ink", "neon"], {"ink", "neon"}),
        (["*"], [], set()),
        (["ink", "oil"], ["ink", "neon"], {"ink"}),
        ([], ["ink"], set()),
    ],
)
async def test_fine_tunes_are_offered_as_they_come_and_go(
    tmp_path: Path, allowed: list[str], there: list[str], offered: set[str]
) -> None:
    document = yaml.safe_load(DEFAULT_CATALOG.read_text(encoding="utf-8"))
    (demo,) = (model for model in document["models"] if model["id"] == "demo")
    demo["routes"][0]["capabilities"]["loras"] = allowed
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    catalog, engines = load_catalog(tmp_path / "catalog.yaml", {}), Engines()
    own = OwnModels(catalog, engines.ask)
    live = replace(catalog, own=own.takes)
    model = live.models["demo"]
    engines.models = listed(loras=["before"])
    assert await own.compare() == ()
    engines.models = listed(loras=there)
    assert await own.compare() == ()
    assert live.takes(model, model.routes[0]).loras == offered
    spec = GenerationSpec(prompt="a star", model="demo", loras=(Lora("ink"),))
    survey = Planner(live).survey(PlanRequest(spec, JobOptions()))
    assert bool(survey.prospects) is ("ink" in offered)
    if not survey.prospects:
        ((misfit,),) = (refusal.misfits for refusal in survey.refusals)
        assert (misfit.field, misfit.takes) == ("spec.loras", "takes no fine-tunes")


def test_while_no_engine_has_told_any_fine_tune_may_be_named() -> None:
    catalog = load_catalog(DEFAULT_CATALOG, {})
    spec = GenerationSpec(prompt="a star", model="demo", loras=(Lora("whatever"),))
    assert Planner(catalog).survey(PlanRequest(spec, JobOptions())).prospects
