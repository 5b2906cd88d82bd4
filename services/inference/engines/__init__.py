"""The engines, by the name that `IMAGEMESH_INFERENCE_ENGINE` takes. An adapter is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.inference.config import InferenceSettings
from services.inference.engine.manifest import Model
from services.inference.engines.base import Engine

Models = Mapping[str, Model]


def _triton(settings: InferenceSettings, _: Models) -> Engine:
    from services.inference.engines.triton import TritonConfig, TritonEngine

    return TritonEngine(TritonConfig(settings.triton_target, draw_seconds=settings.draw_seconds))


def _inprocess(settings: InferenceSettings, models: Models) -> Engine:
    from services.inference.engine.host import HostConfig
    from services.inference.engines.inprocess import InProcessEngine

    host = HostConfig(settings.engine_slots, settings.engine_waiting, settings.engine_threads)
    return InProcessEngine(host, models)


ENGINES: Mapping[str, Callable[[InferenceSettings, Models], Engine]] = {
    "triton": _triton,
    "inprocess": _inprocess,
}


def build_engine(settings: InferenceSettings, models: Models) -> Engine:
    """The engine that the settings name."""
    return ENGINES[settings.inference_engine](settings, models)
