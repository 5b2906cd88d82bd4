"""The RPC edge of inference: decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from imagemesh.inference.v1 import inference_service_pb2 as messages
from imagemesh.inference.v1 import inference_service_pb2_grpc

from mesh.ids import new_id
from mesh.paging import decode_token, encode_token, page_size
from mesh.validation import Rule, check, length
from services.inference import wire, wire_model
from services.inference.catalog import Models, OwnModel
from services.inference.engine.errors import ModelNotLoaded
from services.inference.engines.base import Busy, Engine, State
from services.inference.errors import engine_errors
from services.inference.residents import Residents

LIST = "inference.models"
MODEL_RULES = (Rule("model_id", length(1, 64), "must name a model"),)


class InferenceService(inference_service_pb2_grpc.InferenceServiceServicer):
    """`imagemesh.inference.v1.InferenceService`."""

    def __init__(self, models: Models, engine: Engine, residents: Residents) -> None:
        self._models = models
        self._residents = residents
        self._engine = engine

    async def Generate(
        self, request: messages.GenerateRequest, context: Any
    ) -> AsyncIterator[messages.GenerateResponse]:
        """Draws; leaving the stream frees the engine at its next step."""
        wanted = wire.wanted(request, new_id("draw"))
        with engine_errors():
            if wanted.loras:
                await asyncio.to_thread(self._models.get(wanted.model_id).look)
            drawing = self._models.settle(wanted, request.model_version)
            answer = wire.Answer(drawing, self._models.get(drawing.model_id).version)
            async with self._residents.explaining(drawing.model_id), aclosing(self._engine.draw(drawing)) as facts:
                async for fact in facts:
                    for message in answer.messages(fact):
                        yield message

    async def ListModels(self, request: messages.ListModelsRequest, context: Any) -> messages.ListModelsResponse:
        """The models by id, with what the engine says of each and the LoRAs that are there now."""
        page, token = _page(list(self._models), request)
        with engine_errors():
            statuses = await self._residents.statuses()
        await asyncio.to_thread(_look, page)
        models = [wire_model.model_message(own, statuses[own.model.manifest.id]) for own in page]
        return messages.ListModelsResponse(models=models, next_page_token=token)

    async def GetCapacity(self, request: messages.GetCapacityRequest, context: Any) -> messages.GetCapacityResponse:
        """How busy the loaded models are."""
        with engine_errors():
            return wire_model.capacity_message(self._engine.name, await self._busy(request.model_id))

    async def LoadModel(self, request: messages.LoadModelRequest, context: Any) -> messages.LoadModelResponse:
        """Answers once the model draws, or with why it does not."""
        check(request, MODEL_RULES)
        with engine_errors():
            status = await self._residents.load(request.model_id)
            return messages.LoadModelResponse(
                model=wire_model.model_message(self._models.get(request.model_id), status)
            )

    async def UnloadModel(self, request: messages.UnloadModelRequest, context: Any) -> messages.UnloadModelResponse:
        """Answers once the model's memory is free."""
        check(request, MODEL_RULES)
        with engine_errors():
            status = await self._residents.unload(request.model_id)
            own = self._models.get(request.model_id)
            return messages.UnloadModelResponse(model=wire_model.model_message(own, status))

    async def _busy(self, model_id: str) -> dict[str, Busy]:
        if model_id:
            self._models.get(model_id)
            async with self._residents.explaining(model_id):
                return {model_id: await self._engine.busy(model_id)}
        statuses = await self._residents.statuses()
        busy: dict[str, Busy] = {}
        for name in [name for name, status in statuses.items() if status.state is State.READY]:
            with suppress(ModelNotLoaded):  # it was unloaded meanwhile
                busy[name] = await self._engine.busy(name)
        return busy


def _look(models: list[OwnModel]) -> None:
    for own in models:
        own.look()


def _page(models: list[OwnModel], request: messages.ListModelsRequest) -> tuple[list[OwnModel], str]:
    """The models after the token, and the token of the next page."""
    size = page_size(request.page_size)
    after = str(decode_token(request.page_token, LIST)[0]) if request.page_token else ""
    rest = [own for own in models if own.model.manifest.id > after]
    token = encode_token((rest[size - 1].model.manifest.id,), LIST) if len(rest) > size else ""
    return rest[:size], token
