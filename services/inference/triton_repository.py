"""Writes a Triton model repository: for every model the same shim, and a `config.pbtxt` made from its `model.yaml`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.inference.engine.manifest import Model

SHIM = Path(__file__).resolve().parent / "triton_shim" / "model.py"

CONFIG = """\
name: {name}
backend: "python"
max_batch_size: 0
model_transaction_policy {{ decoupled: true }}
input [ {{ name: "REQUEST" data_type: TYPE_UINT8 dims: [ -1 ] }} ]
output [
  {{ name: "HEADER" data_type: TYPE_UINT8 dims: [ -1 ] }},
  {{ name: "DATA" data_type: TYPE_UINT8 dims: [ -1 ] }}
]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{parameters}
"""


@dataclass(frozen=True)
class RepositoryConfig:
    """What the shim is told. root: the folder that holds `services` and `mesh`; the rest as in `SessionConfig`."""

    root: Path
    telemetry: str = ""
    otlp_endpoint: str = ""
    slots: int = 8
    waiting: int = 64
    threads: int = 1


def write_repository(target: Path, models: Iterable[Model], config: RepositoryConfig) -> None:
    """Replaces `target` by a repository of exactly these models."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for model in models:
        folder = target / model.manifest.id
        (folder / "1").mkdir(parents=True)
        shutil.copy(SHIM, folder / "1" / "model.py")
        (folder / "config.pbtxt").write_text(model_config(model, config))


def model_config(model: Model, config: RepositoryConfig) -> str:
    """The `config.pbtxt` of one model. The shim picks the device itself, so Triton is told of no accelerator."""
    told = {
        "root": str(config.root),
        "folder": str(model.folder),
        "telemetry": config.telemetry,
        "otlp_endpoint": config.otlp_endpoint,
        "slots": str(config.slots),
        "waiting": str(config.waiting),
        "threads": str(config.threads),
    }
    return CONFIG.format(name=json.dumps(model.manifest.id), parameters=_parameters(told))


def _parameters(told: Mapping[str, str]) -> str:
    lines = (
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in told.items()
    )
    return "\n".join(lines)
