"""`make bench-router`: imagemesh beside the LiteLLM proxy, on one stub provider, in one run.

A row of imagemesh goes from GenerateImage to the original's bytes, fetched from their signed address: the job is
durable, its prompt and its picture are judged (rules, decode and hash; in a table of their own also by the built-in
classifiers, as shipped), the picture is stored and published. A row of the proxy is one POST that is passed on, its
answer decoded. The floor is the same client asking the stub itself; what is
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
from benchmarks.router_table import FLOOR, MESH, PEER, SHIPPED, Case, Report
from tests.e2e.local_mesh import LocalMesh, local_mesh
from tests.e2e.stubs import KEY, KEY_ENV, Stub, stubs, write_catalog

EDGE = {"small": 256, "large": 1024}
OPEN_RATE = 40.0
CONCURRENCIES = (1, 16, 64, 256)
LATENCIES = (0, 200)
WITHOUT_CLASSIFIERS = {"IMAGEMESH_PICTURE_MODEL": "false", "IMAGEMESH_ENCODER": ""}
VARIABLES = {KEY_ENV: KEY, "IMAGEMESH_INFERENCE_ENGINE": "inprocess", "IMAGEMESH_TRACE_RATIO": "0.01"}


@dataclass(frozen=True)
class Plan:
    """What one run measures. cell_s: seconds for each system, case and round; the floor takes half of it. limit_s: no
    cell is begun later, the table then says so. shipped: the cases that are also measured with classifiers on."""

    cases: tuple[Case, ...]
    shipped: frozenset[Case]
    rounds: int
    cell_s: float
    limit_s: float


_OPEN = Case("small", 0, open_rate=OPEN_RATE)
FULL = Plan(
    cases=(
        *(Case(size, latency, c) for size in EDGE for latency in LATENCIES for c in CONCURRENCIES),
        _OPEN,
    ),
    shipped=frozenset((Case("small", 0, 1), Case("small", 0, 16), Case("small", 0, 64), _OPEN)),
    rounds=2,
    cell_s=3.0,
    limit_s=520.0,
)
QUICK = Plan(
    cases=(
        *(Case("small", 0, c) for c in (1, 16, 64)),
        _OPEN,
        Case("small", 200, 64),
        *(Case("large", 0, c) for c in (1, 16)),
    ),
    shipped=frozenset(),
    rounds=1,
    cell_s=3.0,
    limit_s=110.0,
)


@dataclass(frozen=True)
class Systems:
    """What is asked. meshes: by the name of their column. The proxy is None where it is not installed."""

    stubs: Mapping[str, Stub]
    meshes: Mapping[str, LocalMesh]
    proxy: Proxy | None

    def names(self, turn: int) -> list[str]:
        """All of them in their order, which changes with every round."""
        names = [FLOOR, *([PEER] if self.proxy else []), *self.meshes]
        return names if turn % 2 == 0 else names[::-1]

    def caller(self, system: str, case: Case, tag: str) -> AbstractAsyncContextManager[Call]:
        """A client of one of the systems, for one cell."""
        asked = Asked(case.route, EDGE[case.size], tag)
        if system in self.meshes:
            mesh = self.meshes[system]
            return mesh_caller(mesh.endpoints["router"], mesh.api_key, asked)
        if system == PEER and self.proxy is not None:
            return openai_caller(self.proxy.base_url, MASTER_KEY, asked)
        return openai_caller(self.stubs[case.route].base_url, KEY, asked)

    def memory(self) -> dict[str, float]:
        """Resident MiB of each process, children included."""
        pids = {
            f"{system}: {name}": int(process["pid"])
            for system, mesh in self.meshes.items()
            for name, process in mesh.processes().items()
        }
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
    began = time.monotonic()
    async with _systems(plan, folder, environment) as systems:
        before = systems.memory()
        samples = await _rounds(plan, systems, began)
        return Report(samples, before, systems.memory(), time.monotonic() - began, missing)


@asynccontextmanager
async def _systems(plan: Plan, folder: Path, environment: Path | None) -> AsyncIterator[Systems]:
    async with AsyncExitStack() as stack:
        running = []
        for case in {case.route: case for case in plan.cases}.values():
            (stub,) = await stack.enter_async_context(stubs([case.route], case.size, case.latency_ms))
            running.append(stub)
        variables = {**VARIABLES, "IMAGEMESH_CATALOG": str(_catalog(folder / "catalog.yaml", running))}
        variants = {MESH: WITHOUT_CLASSIFIERS, **({SHIPPED: {}} if plan.shipped else {})}
        meshes = {
            name: await stack.enter_async_context(local_mesh(folder / f"home-{number}", {**variables, **more}))
            for number, (name, more) in enumerate(variants.items())
        }
        peer = None
        if environment is not None:
            peer = await stack.enter_async_context(proxy(environment, folder / "litellm", running))
        yield Systems({stub.name: stub for stub in running}, meshes, peer)


def _catalog(path: Path, running: Sequence[Stub]) -> Path:
    """One model for each stub, named as the stub is."""
    document = yaml.safe_load(write_catalog(path, running).read_text(encoding="utf-8"))
    (model,) = document["models"]
    document["models"] = [{**model, "id": route["provider"], "routes": [route]} for route in model["routes"]]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


async def _rounds(plan: Plan, systems: Systems, began: float) -> dict[Case, dict[str, Sample]]:
    samples: dict[Case, dict[str, Sample]] = {}
    await _warm(plan, systems)
    for turn in range(plan.rounds):
        for case in plan.cases:
            for name in systems.names(turn):
                if name == SHIPPED and case not in plan.shipped:
                    continue
                if time.monotonic() - began > plan.limit_s:
                    return samples
                sample = await _cell(plan, systems, name, case, f"{turn}-{case}")
                cells = samples.setdefault(case, {})
                cells[name] = cells.get(name, Sample()) + sample
            print(f"round {turn + 1}: {case} after {time.monotonic() - began:.0f} s", flush=True)
    return samples


async def _warm(plan: Plan, systems: Systems) -> None:
    """Connections, caches and code paths of each system, on each stub."""
    for case in {case.route: case for case in plan.cases}.values():
        for name in systems.names(0):
            async with systems.caller(name, case, f"warm-{case.route}") as call:
                await timed_loop(call, 8, 0.0, least=16)


async def _cell(plan: Plan, systems: Systems, name: str, case: Case, tag: str) -> Sample:
    seconds = plan.cell_s / 2 if name == FLOOR else plan.cell_s
    async with systems.caller(name, case, tag) as call:
        await call(-1)
        if case.open_rate:
            return await open_loop(call, case.open_rate, plan.cell_s * 2)
        return await timed_loop(call, case.concurrency, seconds, least=case.concurrency)


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
