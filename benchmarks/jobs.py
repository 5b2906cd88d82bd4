"""Whole jobs per second: from GenerateImage to the original's bytes in hand, on a mesh of real processes.

The provider is a loopback stub that answers at once with a picture that is different each time. The floor is the same
client asking that stub directly: one POST, base64 decoded, nothing stored, judged or signed.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.callers import Asked, mesh_caller, openai_caller
from benchmarks.load import Result, closed_loop
from tests.e2e.local_mesh import LocalMesh, local_mesh
from tests.e2e.stubs import KEY, KEY_ENV, MODEL, Stub, stubs, write_catalog

CONCURRENCIES = (1, 16, 64)
CALLS = {
    ("small", 1): 60,
    ("small", 16): 400,
    ("small", 64): 800,
    ("large", 1): 30,
    ("large", 16): 120,
    ("large", 64): 200,
}
EDGE = {"small": 64, "large": 1024}


@dataclass(frozen=True)
class JobsReport:
    """Results for each of CONCURRENCIES; median milliseconds per span name; resident MiB per process."""

    mesh: list[Result]
    floor: list[Result]
    hops: dict[str, float]
    memory: dict[str, float]


async def measure(folder: Path, size: str) -> JobsReport:
    """One mesh, one stub, `size` is small (20 KB) or large (1.5 MB, 1024²)."""
    async with stubs(["stub"], size) as running:
        folder.mkdir(parents=True)
        environment = {
            KEY_ENV: KEY,
            "IMAGEMESH_CATALOG": str(write_catalog(folder / "catalog.yaml", running)),
            "IMAGEMESH_INFERENCE_ENGINE": "inprocess",
            "IMAGEMESH_TRACE_RATIO": "0.05",
        }
        async with local_mesh(folder / "home", environment) as mesh:
            results = [await _jobs(mesh, size, concurrency) for concurrency in CONCURRENCIES]
            memory = _memory(mesh)
            await mesh.stop()
            hops = _hops(mesh.home / "telemetry")
        floor = [await _floor(running[0], size, concurrency) for concurrency in CONCURRENCIES]
    return JobsReport(results, floor, hops, memory)


async def _jobs(mesh: LocalMesh, size: str, concurrency: int) -> Result:
    asked = Asked(MODEL, EDGE[size], f"{size}-{concurrency}")
    async with mesh_caller(mesh.endpoints["router"], mesh.api_key, asked) as one:
        await one(-1)
        return await closed_loop(one, concurrency, CALLS[size, concurrency])


async def _floor(stub: Stub, size: str, concurrency: int) -> Result:
    async with openai_caller(stub.base_url, KEY, Asked("stub-model", EDGE[size], "floor")) as one:
        await one(-1)
        return await closed_loop(one, concurrency, CALLS[size, concurrency])


def _memory(mesh: LocalMesh) -> dict[str, float]:
    """Resident MiB of each process of the mesh with its children."""
    found = {}
    for name, process in mesh.processes().items():
        parent = psutil.Process(int(process["pid"]))
        found[name] = sum(p.memory_info().rss for p in (parent, *parent.children(recursive=True))) / 2**20
    return found


def _hops(telemetry: Path) -> dict[str, float]:
    """Median milliseconds of each kind of span, over all concurrencies."""
    spans = defaultdict(list)
    for path in telemetry.glob("*.jsonl*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            span = json.loads(line)
            if span["event"] == "end":
                name = f"{span['service']}: {span['name'].rpartition('.')[2]}"
                spans[name].append((span["end_ns"] - span["start_ns"]) / 1e6)
    return {name: statistics.median(times) for name, times in sorted(spans.items())}
