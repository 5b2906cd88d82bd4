"""A tiny model, and each engine that can draw with it: in this process, and behind a real Triton."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.checks import GrpcReady
from deploy.local.kept import Kept, Surroundings
from deploy.local.processes import Process
from deploy.local.triton import remove_shared_memory
from services.inference.catalog import Models
from services.inference.engine.errors import EngineError
from services.inference.engine.manifest import read_models
from services.inference.engines.base import Engine, State
from tests.conftest import ROOT, free_port, missing

TRITON = (sys.executable, "-m", "deploy.local.triton")
DEADLINE_S = 60.0
SLOTS = 4
WAITING = 3


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model `tiny`, and with `absent`, which has no weights."""
    from tests.inference.tiny import model_yaml, write_tiny_model

    root = tmp_path_factory.mktemp("models")
    write_tiny_model(root / "tiny")
    (root / "absent").mkdir()
    (root / "absent" / "model.yaml").write_text(model_yaml("absent"))
    return root


@pytest.fixture(scope="session")
def models(models_folder: Path) -> Models:
    return Models(read_models(models_folder), draw_seed=lambda: 1234)


@dataclass(frozen=True)
class RunningTriton:
    target: str
    pid: int
    telemetry: Path

    def stubs(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children if "stub" in Path(f"/proc/{child}/cmdline").read_text()]


@pytest.fixture(scope="session", autouse=True)
def early_triton(request: pytest.FixtureRequest) -> None:
    """Lets Triton load its model while the tests that do not need it run."""
    if any("triton" in item.nodeid for item in request.session.items):
        request.getfixturevalue("triton_process")


@pytest.fixture
def triton(triton_process: RunningTriton | str) -> RunningTriton:
    """A real tritonserver with the tiny model; it may still be loading."""
    if isinstance(triton_process, str):
        missing(f"Triton ({triton_process})")
    assert isinstance(triton_process, RunningTriton)
    return triton_process


@pytest.fixture(scope="session")
def triton_process(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton | str]:
    """The server of all tests, or why there is none."""
    check = subprocess.run([sys.executable, "-m", "deploy.local.triton", "--check"], cwd=ROOT, capture_output=True)
    if check.returncode != 0:
        yield check.stderr.decode().strip()
        return
    work = tmp_path_factory.mktemp("triton")
    port = free_port()
    environment = {**os.environ, **triton_environment(models_folder, work, port)}
    with (work / "log").open("wb") as log:
        process = subprocess.Popen(TRITON, cwd=ROOT, env=environment, stdout=log, stderr=log)
    yield RunningTriton(f"127.0.0.1:{port}", process.pid, work / "telemetry")
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    process.kill()
    process.wait()
    remove_shared_memory(work)


def triton_environment(models_folder: Path, work: Path, port: int) -> dict[str, str]:
    return {
        "IMAGEMESH_MODELS": str(models_folder),
        "IMAGEMESH_TRITON_WORK": str(work),
        "IMAGEMESH_TRITON_GRPC_PORT": str(port),
        "IMAGEMESH_TRITON_HTTP_PORT": str(free_port()),
        "IMAGEMESH_TRITON_METRICS_PORT": str(free_port()),
        "IMAGEMESH_TELEMETRY_DIR": str(work / "telemetry"),
        "IMAGEMESH_ENGINE_SLOTS": str(SLOTS),
        "IMAGEMESH_ENGINE_WAITING": str(WAITING),
        "IMAGEMESH_TRITON_EXIT_TIMEOUT": "1",
    }


@pytest.fixture
async def kept_triton(
    triton_process: RunningTriton | str, models_folder: Path, tmp_path: Path
) -> AsyncIterator[RunningTriton]:
    """A Triton of one test alone that is started again when it dies, as the launcher and a pod do."""
    if isinstance(triton_process, str):
        missing(f"Triton ({triton_process})")
    port = free_port()
    check = GrpcReady(port, service="")
    process = Process("triton", TRITON, check, triton_environment(models_folder, tmp_path, port))
    (tmp_path / "logs").mkdir()
    kept = Kept(process, Surroundings(dict(os.environ), tmp_path / "logs", lambda _: None))
    kept.start([])
    async with asyncio.timeout(DEADLINE_S):
        await kept.up.wait()
    yield RunningTriton(f"127.0.0.1:{port}", kept.standing.pid, tmp_path / "telemetry")
    await kept.stop()
    remove_shared_memory(tmp_path)


async def build(name: str, models: Models, request: pytest.FixtureRequest, unload_seconds: float = 60.0) -> Engine:
    if name == "inprocess":
        from services.inference.engine.host import HostConfig
        from services.inference.engines.inprocess import InProcessEngine

        host = HostConfig(slots=SLOTS, waiting=WAITING, threads=1)
        return InProcessEngine(host, models.by_id, unload_seconds=unload_seconds)
    from services.inference.engines.triton import TritonConfig, TritonEngine

    triton: RunningTriton = request.getfixturevalue("triton")
    return TritonEngine(TritonConfig(triton.target, silence_seconds=0.5, unload_seconds=unload_seconds))


async def until_drawing(engine: Engine, model_id: str = "tiny", failed_is_final: bool = True) -> None:
    """Waits until the model is ready; fails when it failed, unless it is being brought back."""

    async def ready() -> bool:
        try:
            status = (await engine.statuses()).get(model_id)
        except EngineError:  # not there yet
            return False
        assert not failed_is_final or status is None or status.state is not State.FAILED, status
        return status is not None and status.state is State.READY

    await eventually(ready)


async def eventually(condition: Callable[[], object]) -> None:
    """Waits until the condition (a function or a coroutine function) holds; fails after a minute."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = condition()
        if (await answer) if asyncio.iscoroutine(answer) else answer:
            return
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


@pytest.fixture(params=["inprocess", "triton"])
async def engine(request: pytest.FixtureRequest, models: Models) -> AsyncIterator[Engine]:
    """A started engine whose model `tiny` is ready."""
    engine = await build(request.param, models, request)
    await engine.start()
    await until_drawing(engine)
    yield engine
    await engine.stop()
