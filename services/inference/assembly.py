"""The inference service put together: models, engine, rpc server and its health. Used by `__main__` and by tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from imagemesh.inference.v1 import inference_service_pb2
from imagemesh.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

from mesh.auth import Authenticator, KeyVerifier
from mesh.process import Background
from mesh.server import Server, ServerConfig
from services.inference.catalog import Models
from services.inference.engines.base import Engine
from services.inference.residents import Residents
from services.inference.service import InferenceService
from services.inference.wishes import Wishes

SERVICE = inference_service_pb2.DESCRIPTOR.services_by_name["InferenceService"]
MESSAGE_BYTES = 128 * 1024 * 1024  # a request with every image it may carry: one, a mask and four controls of 20 MiB
MODEL_HEALTH = "model."  # a model's health service is `model.<id>`

Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Outside:
    """What the service stands on. wishes: which models operators unloaded. checks: further named health services."""

    models: Models
    engine: Engine
    keys: KeyVerifier
    mesh_token: str = field(repr=False)
    wishes: Wishes = field(default_factory=Wishes)
    checks: Mapping[str, Check] = field(default_factory=dict)


class Inference:
    """The service. `start` and `stop` may each be called once; `stop` before `start` only closes."""

    def __init__(self, config: ServerConfig, outside: Outside) -> None:
        engine = outside.engine
        residents = Residents(outside.models, engine, outside.wishes)
        per_model = {MODEL_HEALTH + name: partial(residents.check, name) for name in outside.models.by_id}
        checks: dict[str, Check] = {"readiness": engine.ready, **per_model, **outside.checks}
        self._engine = engine
        self._keeping = Background("keep models", residents.keep)
        self.server = Server(config, Authenticator(outside.mesh_token, outside.keys), checks)
        self.server.add(
            SERVICE, InferenceService(outside.models, engine, residents), add_InferenceServiceServicer_to_server
        )

    async def start(self) -> None:
        """The engine first, then the server; neither waits for models."""
        await self._engine.start()
        await self.server.start()
        self._keeping.start()

    async def stop(self) -> None:
        """Lets running calls end, then the engine."""
        await self.server.stop()
        await self._keeping.stop()
        await self._engine.stop()
