"""`make bench-router`: imagemesh beside the LiteLLM proxy, on one stub provider, in one run.

A row of imagemesh goes from GenerateImage to the original's bytes, fetched from their signed address: the job is
durable, its prompt and its picture are judged (decode and hash), the picture is stored and published. A row of the
proxy is one POST that is passed on, its answer decoded. The floor is the same client asking the stub itself; what is
added is latency over the floor's at the same concurrency. Systems take turns, cell by cell and round by round.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop
import yaml
from rich.console import Console

from benchmarks import router_table
from benchmarks.callers import Asked, mesh_caller, openai_caller
from benchmarks.litellm_proxy import MASTER_KEY, NotInstalledError, Proxy, install, proxy
from benchmarks.load import Call, Sample, open_loop, timed_loop
from benchmarks.router_table import FLOOR, MESH, PEER, Case, Report
from tests.e2e.local_mesh import LocalMesh, local_mesh
from tests.e2e.stubs import KEY, KEY_ENV, Stub, stubs, write_catalog

EDGE = {"small": 256, "large": 1024}
OPEN_RATE = 40.0
CONCURRENCIES = (1, 16, 64, 256)
LATENCIES = (0, 200)


@dataclass(frozen=True)
class Plan:
    """What one run measures. cell_s: seconds for each system, case and round; the floor takes half of it. limit_s: no
    case is begun later, the table then says so."""

    cases: tuple[Case, ...]
    rounds: int
    cell_s: float
    limit_s: float


_OPEN = Case("small", 0, open_rate=OPEN_RATE)
FULL = Plan(
    cases=(
        *(Case(size, latency, c) for size in EDGE for latency in LATENCIES for c in CONCURRENCIES),
        _OPEN,
    ),
    rounds=2,
    cell_s=3.0,
    limit_s=540.0,
)
QUICK = Plan(
    cases=(
        *(Case("small", 0, c) for c in (1, 16, 64)),
        _OPEN,
        Case("small", 200, 64),
        *(Case("large", 0, c) for c in (1, 16)),
    ),
    rounds=1,
    cell_s=3.0,
    limit_s=90.0,
)


@dataclass(frozen=True)
class Systems:
    """What is asked. The proxy is None where it is not installed."""

    stubs: Mapping[str, Stub]
    mesh: LocalMesh
    proxy: Proxy | None

    def caller(self, system: str, case: Case, tag: str) -> AbstractAsyncContextManager[Call]:
        """A client of one of the systems, for one cell."""
        asked = Asked(case.route, EDGE[case.size], tag)
        if system == MESH:
            return mesh_caller(self.mesh.endpoints["router"], self.mesh.api_key, asked)
        if system == PEER and self.proxy is not None:
            return openai_caller(self.proxy.base_url, MASTER_KEY, asked)
        return openai_caller(self.stubs[case.route].base_url, KEY, asked)

    def memory(self) -> dict[str, float]:
        """Resident MiB of each process, children included."""
        pids = {f"imagemesh {name}": int(process["pid"]) for name, process in self.mesh.processes().items()}
        if self.proxy is not None:
            pids[PEER] = self.proxy.pid
        return {name: _resident(pid) for name, pid in pids.items()}


def _resident(pid: int) -> float:
    parent = psutil.Process(pid)
    return float(sum(p.memory_info().rss for p in (parent, *parent.children(recursive=True))) / 2**20)


async def measure(plan: Plan, folder: Path) -> Report:
    """Everything up at once, measured in turns, ended by pid."""
    try:
        environment: Path | None = await install()
        missing = ""
    except NotInstalledError as error:
        environment, missing = None, str(error)
    async with _systems(plan, folder, environment) as systems:
        before = systems.memory()
        began = time.monotonic()
        samples = await _rounds(plan, systems, [FLOOR, *([PEER] if environment else []), MESH], began)
        return Report(samples, before, systems.memory(), time.monotonic() - began, missing)


@asynccontextmanager
async def _systems(plan: Plan, folder: Path, environment: Path | None) -> AsyncIterator[Systems]:
    async with AsyncExitStack() as stack:
        running = []
        for case in {case.route: case for case in plan.cases}.values():
            (stub,) = await stack.enter_async_context(stubs([case.route], case.size, case.latency_ms))
            running.append(stub)
        variables = {
            KEY_ENV: KEY,
            "IMAGEMESH_CATALOG": str(_catalog(folder / "catalog.yaml", running)),
            "IMAGEMESH_INFERENCE_ENGINE": "inprocess",
            "IMAGEMESH_TRACE_RATIO": "0.01",
        }
        mesh = await stack.enter_async_context(local_mesh(folder / "home", variables))
        peer = None
        if environment is not None:
            peer = await stack.enter_async_context(proxy(environment, folder / "litellm", running))
        yield Systems({stub.name: stub for stub in running}, mesh, peer)


def _catalog(path: Path, running: Sequence[Stub]) -> Path:
    """One model for each stub, named as the stub is."""
    document = yaml.safe_load(write_catalog(path, running).read_text(encoding="utf-8"))
    (model,) = document["models"]
    document["models"] = [{**model, "id": route["provider"], "routes": [route]} for route in model["routes"]]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


async def _rounds(plan: Plan, systems: Systems, names: Sequence[str], began: float) -> dict[Case, dict[str, Sample]]:
    samples: dict[Case, dict[str, Sample]] = {}
    await _warm(plan, systems, names)
    for turn in range(plan.rounds):
        order = names if turn % 2 == 0 else names[::-1]
        for case in plan.cases:
            for name in order:
                if time.monotonic() - began > plan.limit_s:
                    return samples
                sample = await _cell(plan, systems, name, case, f"{turn}-{case}")
                cells = samples.setdefault(case, {})
                cells[name] = cells.get(name, Sample()) + sample
            print(f"round {turn + 1}: {case} after {time.monotonic() - began:.0f} s", flush=True)
    return samples


async def _warm(plan: Plan, systems: Systems, names: Sequence[str]) -> None:
    """Connections, caches and code paths of each system, on each stub."""
    for case in {case.route: case for case in plan.cases}.values():
        for name in names:
            async with systems.caller(name, case, f"warm-{case.route}") as call:
                await timed_loop(call, 8, 0.0, least=32)


async def _cell(plan: Plan, systems: Systems, name: str, case: Case, tag: str) -> Sample:
    seconds = plan.cell_s / 2 if name == FLOOR else plan.cell_s
    async with systems.caller(name, case, tag) as call:
        await call(-1)
        if case.open_rate:
            return await open_loop(call, case.open_rate, plan.cell_s * 2)
        return await timed_loop(call, case.concurrency, seconds, least=2 * case.concurrency)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="imagemesh beside the LiteLLM proxy")
    parser.add_argument("--quick", action="store_true", help="two minutes instead of ten")
    plan = QUICK if parser.parse_args().quick else FULL
    console = Console(width=150)
    console.print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="imagemesh-bench-") as name:
        report = uvloop.run(measure(plan, Path(name)))
    router_table.show(console, plan.cases, report)


if __name__ == "__main__":
    main()
