"""The inference service put together: models, engine, rpc server and its health. Used by `__main__` and by tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from imagemesh.inference.v1 import inference_service_pb2
from imagemesh.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

from mesh.auth import Authenticator, KeyVerifier
from mesh.server import Server, ServerConfig
from services.inference.catalog import Models
from services.inference.engine.errors import EngineUnavailable
from services.inference.engines.base import Engine, State, Status
from services.inference.service import InferenceService

SERVICE = inference_service_pb2.DESCRIPTOR.services_by_name["InferenceService"]
MESSAGE_BYTES = 128 * 1024 * 1024  # a request with every image it may carry: one, a mask and four controls of 20 MiB
MODEL_HEALTH = "model."  # a model's health service is `model.<id>`

Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Outside:
    """What the service stands on. checks: further named health services."""

    models: Models
    engine: Engine
    keys: KeyVerifier
    mesh_token: str = field(repr=False)
    checks: Mapping[str, Check] = field(default_factory=dict)


class Inference:
    """The service. `start` and `stop` may each be called once; `stop` before `start` only closes."""

    def __init__(self, config: ServerConfig, outside: Outside) -> None:
        engine = outside.engine
        per_model = {
            MODEL_HEALTH + own.model.manifest.id: _model_check(engine, own.model.manifest.id) for own in outside.models
        }
        checks = {"readiness": engine.ready, **per_model, **outside.checks}
        self._engine = engine
        self.server = Server(config, Authenticator(outside.mesh_token, outside.keys), checks)
        self.server.add(SERVICE, InferenceService(outside.models, engine), add_InferenceServiceServicer_to_server)

    async def start(self) -> None:
        """The engine first, then the server; neither waits for models."""
        await self._engine.start()
        await self.server.start()

    async def stop(self) -> None:
        """Lets running calls end, then the engine."""
        await self.server.stop()
        await self._engine.stop()


def _model_check(engine: Engine, model_id: str) -> Check:
    async def check() -> None:
        status = (await engine.statuses()).get(model_id, Status(State.UNLOADED))
        if status.state is not State.READY:
            raise EngineUnavailable(status.error or f"{model_id} is {status.state.value}")

    return check
