"""The API process as it is put together: the catalog against the engines, breakers of the workers in the list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from imagemesh.events.v1 import breaker_pb2
from imagemesh.inference.v1 import model_pb2
from imagemesh.router.v1 import catalog_pb2, catalog_service_pb2, catalog_service_pb2_grpc

from mesh.events import Bus, BusConfig
from services.router.api_main import run_api
from services.router.catalog_file import CatalogError
from services.router.config import MIGRATIONS, ApiSettings
from services.router.worker_main import BREAKER
from tests.conftest import NatsServer, free_port
from tests.router.api import CATALOG, INTERNAL, NOWHERE, TOKEN
from tests.router.fakes.inference import FakeInference
from tests.schemas import migrated

AGREES: dict[str, Any] = {
    "modelId": "demo",
    "capabilities": ["text_to_image"],
    "size": {"min": 64, "max": 512, "factor": 8, "defaultSize": {"width": 64, "height": 64}},
    "maxCount": 8,
    "defaultSteps": 20,
    "maxSteps": 100,
}


def own(**changes: Any) -> model_pb2.Model:
    return json_format.ParseDict({**AGREES, **changes}, model_pb2.Model())


class Inference(FakeInference):
    def __init__(self, *models: model_pb2.Model) -> None:
        super().__init__()
        self.models = list(models)


@asynccontextmanager
async def serving(inference: Inference, port: int = 0) -> AsyncIterator[None]:
    await inference.start(port)
    try:
        yield
    finally:
        await inference.stop()


async def settings(folder: Path, inference_target: str, nats_url: str = NOWHERE) -> ApiSettings:
    (folder / "catalog.yaml").write_text(CATALOG)
    url = f"sqlite:///{folder / 'truth.db'}"
    await migrated(url, MIGRATIONS)
    return ApiSettings(
        database_url=url, mesh_token=TOKEN, nats_url=nats_url, grpc_port=free_port(), drain_seconds=0.5,
        catalog=folder / "catalog.yaml", inference_target=inference_target,
    )  # fmt: skip


class Callers:
    """What a caller sees of the process."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    async def model(self, name: str) -> catalog_pb2.Model:
        answer = await self._catalog.ListModels(catalog_service_pb2.ListModelsRequest(), metadata=INTERNAL)
        return next(model for model in answer.models if model.model_id == name)

    async def provider(self, name: str) -> catalog_pb2.Provider:
        answer = await self._catalog.ListProviders(catalog_service_pb2.ListProvidersRequest(), metadata=INTERNAL)
        return next(provider for provider in answer.providers if provider.provider_id == name)

    async def until_health(self, name: str, serving: bool) -> None:
        wanted = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        async for seen in self._health.Watch(health_pb2.HealthCheckRequest(service=name)):
            if seen.status == wanted:
                return


@asynccontextmanager
async def running(chosen: ApiSettings) -> AsyncIterator[Callers]:
    stopping = asyncio.Event()
    process = asyncio.create_task(run_api(chosen, {}, stopping))
    try:
        async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{chosen.grpc_port}") as channel:
            await channel.channel_ready()
            yield Callers(channel)
    finally:
        stopping.set()
        await process


async def test_engines_that_agree_are_no_hindrance(tmp_path: Path) -> None:
    inference = Inference(own(), own(modelId="another"))
    async with serving(inference), running(await settings(tmp_path, inference.target)) as callers:
        await callers.until_health("catalog", serving=True)
        assert (await callers.model("demo")).available


async def test_a_conflict_with_engines_that_answer_is_an_error_at_the_start(tmp_path: Path) -> None:
    inference = Inference(own(maxCount=4, maxSteps=50))
    async with serving(inference):
        with pytest.raises(CatalogError) as caught:
            await run_api(await settings(tmp_path, inference.target), {}, asyncio.Event())
    assert str(caught.value).splitlines() == [
        "catalog.yaml: models.demo on own: capabilities.count_per_call: model.yaml says at most 4",
        "catalog.yaml: models.demo on own: capabilities.max_steps: model.yaml says at most 50",
    ]


async def test_a_conflict_with_engines_that_come_later_makes_the_model_unavailable(tmp_path: Path) -> None:
    port = free_port()
    async with running(await settings(tmp_path, f"127.0.0.1:{port}")) as callers:
        await callers.until_health("catalog", serving=True)
        assert (await callers.model("demo")).available
        async with serving(Inference(own(maxCount=4)), port):
            await callers.until_health("catalog", serving=False)
        told = "capabilities.count_per_call: model.yaml says at most 4"
        model = await callers.model("demo")
        assert (model.available, model.routes[0].unavailable_reason) == (False, told)
        assert (await callers.provider("own")).unavailable_reason == f"demo: {told}"
        assert not (await callers.provider("shop")).unavailable_reason
        await callers.until_health("readiness", serving=True)


async def test_a_workers_open_breaker_is_in_the_list_of_providers(tmp_path: Path, nats_server: NatsServer) -> None:
    opened = breaker_pb2.BreakerChanged(provider="own", model="demo", state=catalog_pb2.BREAKER_STATE_OPEN)
    opened.retry_time.GetCurrentTime()
    opened.retry_time.seconds += 60
    bus = Bus(BusConfig(nats_server.url, "a-worker"))
    await bus.start()
    async with running(await settings(tmp_path, "127.0.0.1:1", nats_server.url)) as callers:
        while not (health := (await callers.provider("own")).health):
            await bus.signal(BREAKER + "own", opened.SerializeToString())
    await bus.stop()
    assert [(entry.model, entry.breaker) for entry in health] == [("demo", catalog_pb2.BREAKER_STATE_OPEN)]
