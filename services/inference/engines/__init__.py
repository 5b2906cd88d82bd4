"""The engines, by the name that `IMAGEMESH_INFERENCE_ENGINE` takes. An adapter is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from services.inference.config import InferenceSettings
from services.inference.engine.manifest import Model
from services.inference.engines.base import Engine

Models = Mapping[str, Model]
Names = AbstractSet[str]


def _triton(settings: InferenceSettings, _: Models, __: Names) -> Engine:
    from services.inference.engines.triton import TritonConfig, TritonEngine

    config = TritonConfig(
        settings.triton_target, draw_seconds=settings.draw_seconds, unload_seconds=settings.unload_seconds
    )
    return TritonEngine(config)


def _inprocess(settings: InferenceSettings, models: Models, unwanted: Names) -> Engine:
    from services.inference.engine.host import HostConfig
    from services.inference.engines.inprocess import InProcessEngine

    host = HostConfig(settings.engine_slots, settings.engine_waiting, settings.engine_threads)
    return InProcessEngine(host, models, unwanted, settings.unload_seconds)


ENGINES: Mapping[str, Callable[[InferenceSettings, Models, Names], Engine]] = {
    "triton": _triton,
    "inprocess": _inprocess,
}


def build_engine(settings: InferenceSettings, models: Models, unwanted: Names = frozenset()) -> Engine:
    """The engine that the settings name. `unwanted`: models that it does not load at start."""
    return ENGINES[settings.inference_engine](settings, models, unwanted)
