"""The RPC edge of inference: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from imagemesh.inference.v1 import inference_service_pb2 as messages
from imagemesh.inference.v1 import inference_service_pb2_grpc

from mesh.errors import unimplemented
from mesh.ids import new_id
from mesh.paging import decode_token, encode_token, page_size
from services.inference import wire
from services.inference.catalog import Models, OwnModel
from services.inference.engines.base import Busy, Engine, State, Status
from services.inference.errors import engine_errors

LIST = "inference.models"
ABSENT = Status(State.UNLOADED)


class InferenceService(inference_service_pb2_grpc.InferenceServiceServicer):
    """`imagemesh.inference.v1.InferenceService`."""

    def __init__(self, models: Models, engine: Engine) -> None:
        self._models = models
        self._engine = engine

    async def Generate(
        self, request: messages.GenerateRequest, context: Any
    ) -> AsyncIterator[messages.GenerateResponse]:
        """Draws; leaving the stream frees the engine at its next step."""
        wanted = wire.wanted(request, new_id("draw"))
        with engine_errors():
            drawing = self._models.settle(wanted, request.model_version)
            answer = wire.Answer(drawing, self._models.get(drawing.model_id).version)
            async with aclosing(self._engine.draw(drawing)) as facts:
                async for fact in facts:
                    for message in answer.messages(fact):
                        yield message

    async def ListModels(self, request: messages.ListModelsRequest, context: Any) -> messages.ListModelsResponse:
        """The models by id, with what the engine says of each."""
        page, token = _page(list(self._models), request)
        with engine_errors():
            statuses = await self._engine.statuses()
        models = [wire.model_message(own, statuses.get(own.model.manifest.id, ABSENT)) for own in page]
        return messages.ListModelsResponse(models=models, next_page_token=token)

    async def GetCapacity(self, request: messages.GetCapacityRequest, context: Any) -> messages.GetCapacityResponse:
        """How busy the loaded models are."""
        with engine_errors():
            return wire.capacity_message(self._engine.name, await self._busy(request.model_id))

    async def LoadModel(self, request: messages.LoadModelRequest, context: Any) -> messages.LoadModelResponse:
        """Later."""
        raise unimplemented("LoadModel", "models load when the service starts")

    async def UnloadModel(self, request: messages.UnloadModelRequest, context: Any) -> messages.UnloadModelResponse:
        """Later."""
        raise unimplemented("UnloadModel", "models stay loaded until the service stops")

    async def _busy(self, model_id: str) -> dict[str, Busy]:
        if model_id:
            return {model_id: await self._engine.busy(self._models.get(model_id).model.manifest.id)}
        statuses = await self._engine.statuses()
        names = [own.model.manifest.id for own in self._models]
        ready = [name for name in names if statuses.get(name, ABSENT).state is State.READY]
        return {name: await self._engine.busy(name) for name in ready}


def _page(models: list[OwnModel], request: messages.ListModelsRequest) -> tuple[list[OwnModel], str]:
    """The models after the token, and the token of the next page."""
    size = page_size(request.page_size)
    after = str(decode_token(request.page_token, LIST)[0]) if request.page_token else ""
    rest = [own for own in models if own.model.manifest.id > after]
    token = encode_token((rest[size - 1].model.manifest.id,), LIST) if len(rest) > size else ""
    return rest[:size], token
