"""The examples of docs/models.md can be served as they stand, and its tables name every field."""

from __future__ import annotations

import re

import pytest
import yaml

from services.inference.engine.manifest import Manifest
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "models.md").read_text()
EXAMPLES = {example["id"]: example for example in map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TEXT, re.S))}


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd35-large", "flux-dev", "flux-schnell"])
def test_the_example_is_a_manifest(name: str) -> None:
    manifest = Manifest.model_validate(EXAMPLES[name])
    assert re.fullmatch(r"[0-9a-f]{40}", manifest.weights.revision)
    assert f"# models/{name}/model.yaml" in TEXT


@pytest.mark.parametrize("field", list(Manifest.model_fields))
def test_every_field_is_named(field: str) -> None:
    assert f"`{field}`" in TEXT
