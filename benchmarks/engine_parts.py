"""What the engine's benchmark measures with: the bare pipeline, the engine in process, and behind Triton and gRPC."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from imagemesh.inference.v1 import inference_service_pb2 as messages
from imagemesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub

from deploy.local.triton import remove_shared_memory
from mesh.auth import Principal
from mesh.channel import ChannelConfig, open_channel
from mesh.server import ServerConfig
from services.inference.assembly import Inference, Outside
from services.inference.catalog import Models
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Progress
from services.inference.engine.family_latent import PNG_LEVEL
from services.inference.engine.host import HostConfig
from services.inference.engine.request import DrawRequest, Wanted
from services.inference.engine.schedulers import build
from services.inference.engines.base import Engine, State
from services.inference.engines.inprocess import InProcessEngine
from services.inference.engines.triton import TritonConfig, TritonEngine

ROOT = Path(__file__).resolve().parents[1]
MODEL = "demo"
PROMPT = "two yellow stars on a dark blue background"
TOKEN = "a token of the benchmark"
START_SECONDS = 300.0


@dataclass(frozen=True)
class Spread:
    """Some measurements in seconds (or a ratio of them): median and quartiles."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def percentile(self, percent: int) -> float:
        """What so many of a hundred do not exceed."""
        ordered = sorted(self.values)
        return ordered[round((len(ordered) - 1) * percent / 100)]

    def text(self, scale: float = 1000.0) -> str:
        """Median and quartiles for people, in milliseconds unless scaled otherwise."""
        low, high = self.percentile(25), self.percentile(75)
        return f"{self.median * scale:.1f} ({low * scale:.1f} to {high * scale:.1f})"


def ratios(over: Spread, under: Spread) -> Spread:
    """Run by run, since neighbours in time were measured under the same load."""
    return Spread(tuple(a / b for a, b in zip(over.values, under.values, strict=True)))


class Bare:
    """diffusers' own pipeline, with the scheduler that the request names, to PNG bytes as the engine makes them."""

    def __init__(self, folder: Path) -> None:
        import torch
        from diffusers import StableDiffusionPipeline

        pipeline: Any = StableDiffusionPipeline
        self._torch: Any = torch
        self._pipe = pipeline.from_pretrained(
            str(folder),
            dtype=torch.float32,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self._pipe.set_progress_bar_config(disable=True)
        self._config = self._pipe.scheduler.config

    def draw(self, request: DrawRequest) -> float:
        """Draws it; seconds."""
        self._torch.set_num_threads(1)
        begun = perf_counter()
        self._pipe.scheduler = build(request.scheduler, self._config, request.steps, "cpu")
        image = self._pipe(
            request.prompt,
            height=request.height,
            width=request.width,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance,
            generator=self._torch.Generator("cpu").manual_seed(request.seed),
        ).images[0]
        image.save(io.BytesIO(), "PNG", compress_level=PNG_LEVEL)
        return perf_counter() - begun


def request_of(models: Models, name: str, steps: int, seed: int = 1) -> DrawRequest:
    """A drawing of the demo model at its default size."""
    return models.settle(Wanted(MODEL, PROMPT, request_id=name, steps=steps, seed=seed), "")


async def draw(engine: Engine, request: DrawRequest, steps: list[float] | None = None) -> float:
    """Draws it; seconds. When each step was made is added to `steps`."""
    begun = perf_counter()
    async with aclosing(engine.draw(request)) as facts:
        async for fact in facts:
            if steps is not None and isinstance(fact, Progress) and fact.step:
                steps.append(perf_counter())
    return perf_counter() - begun


@asynccontextmanager
async def in_process(models: Models) -> AsyncIterator[Engine]:
    """The engine in this process, its model loaded."""
    engine = InProcessEngine(HostConfig(threads=1), models.by_id)
    await engine.start()
    try:
        await until_ready(engine)
        yield engine
    finally:
        await engine.stop()


async def until_ready(engine: Engine) -> None:
    """Waits for the model."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                if (await engine.statuses())[MODEL].state is State.READY:
                    return
            except (EngineError, KeyError):
                pass
            await asyncio.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Keys:
    """Nobody calls with a key."""

    async def verify(self, key: str) -> Principal:
        """Never asked."""
        raise AssertionError("the benchmark calls as the mesh")


@asynccontextmanager
async def behind_triton(models: Models, folder: Path, work: Path) -> AsyncIterator[Any]:
    """A stub of the inference service in front of a real Triton."""
    ports = [_free_port() for _ in range(3)]
    names = ("GRPC", "HTTP", "METRICS")
    environment = {
        **os.environ,
        **{f"IMAGEMESH_TRITON_{name}_PORT": str(port) for name, port in zip(names, ports, strict=True)},
        "IMAGEMESH_MODELS": str(folder),
        "IMAGEMESH_TRITON_WORK": str(work),
    }
    command = (sys.executable, "-m", "deploy.local.triton")
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=nowhere, stderr=nowhere)
    engine = TritonEngine(TritonConfig(f"127.0.0.1:{ports[0]}"))
    inference = Inference(ServerConfig(drain_seconds=1), Outside(models, engine, Keys(), TOKEN))
    await inference.start()
    channel = open_channel(ChannelConfig(f"127.0.0.1:{inference.server.port}", TOKEN, timeout=None))
    try:
        await until_ready(engine)
        yield InferenceServiceStub(channel)
    finally:
        await channel.close()
        await inference.stop()
        process.terminate()
        await process.wait()
        remove_shared_memory(work)


async def draw_by_rpc(stub: Any, request: DrawRequest) -> float:
    """The same drawing through gRPC; seconds."""
    begun = perf_counter()
    asked = messages.GenerateRequest(
        request_id=request.request_id,
        model_id=request.model_id,
        prompt=request.prompt,
        steps=request.steps,
        seed=request.seed,
    )
    async for _ in stub.Generate(asked):
        pass
    return perf_counter() - begun


def spread(values: Sequence[float]) -> Spread:
    """As a Spread."""
    return Spread(tuple(values))
