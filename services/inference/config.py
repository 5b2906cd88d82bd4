"""The inference service's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mesh.config import Settings

MODELS = Path(__file__).resolve().parents[2] / "models"


class InferenceSettings(Settings):
    """`IMAGEMESH_*` of this service; the engine's own three apply where the engine runs in process."""

    models: Path = Field(MODELS, description="Folder with one folder per model, each with a model.yaml.")
    inference_engine: Literal["triton", "inprocess"] = Field("triton", description="Where drawings are made.")
    model_wishes: Path | None = Field(
        None, description="File that keeps which models operators unloaded; empty: forgotten at a restart."
    )
    unload_seconds: float = Field(60.0, ge=0, description="Time that running drawings get when a model is unloaded.")
    triton_target: str = Field("127.0.0.1:7404", description="Triton's gRPC address.")
    draw_seconds: float = Field(3600.0, gt=0, description="Longest drawing, queueing included, seconds.")
    engine_slots: int = Field(8, ge=1, le=256, description="Requests of one model drawn at once.")
    engine_waiting: int = Field(64, ge=0, le=4096, description="Requests of one model that may wait.")
    engine_threads: int = Field(1, ge=1, le=64, description="CPU threads of one operation.")
