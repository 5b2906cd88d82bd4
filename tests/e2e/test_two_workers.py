"""Two router workers on one PostgreSQL: they share the jobs, and nothing is done twice."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from imagemesh.generation import Options

from tests.conftest import PostgresServer
from tests.e2e.local_mesh import LocalMesh, local_mesh
from tests.e2e.production import production
from tests.e2e.stubs import KEY, KEY_ENV, MODEL, Stub, stubs, write_catalog

pytestmark = [pytest.mark.timeout(200), pytest.mark.asyncio(loop_scope="module")]

JOBS = 30
PENNY = 10_000


@dataclass(frozen=True)
class Stage:
    mesh: LocalMesh
    stub: Stub


@pytest.fixture(scope="module")
async def stage(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("workers")
    parts = await production(postgres, workers=2)
    async with stubs(["stub"], "tiny", latency_ms=50) as running:
        environment = {
            **parts.environment,
            KEY_ENV: KEY,
            "IMAGEMESH_CATALOG": str(write_catalog(folder / "catalog.yaml", running)),
            "IMAGEMESH_WORKER_SLOTS": "4",
        }
        async with local_mesh(folder / "home", environment, parts.truth) as mesh:
            yield Stage(mesh, running[0])


def jobs_by_worker(telemetry: Path) -> Counter[str]:
    """How many jobs each worker process has ended, by its file of spans."""
    found: Counter[str] = Counter()
    for path in telemetry.glob("router-worker-*.jsonl"):
        spans = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.stem] = sum((span["event"], span["name"]) == ("end", "process job") for span in spans)
    return found


async def test_two_workers_share_the_jobs_and_do_none_twice(stage: Stage) -> None:
    mesh = stage.mesh
    async with mesh.client() as client:
        options = Options(model=MODEL, cache="bypass")
        ended = await asyncio.gather(*(client.generate(f"a red fox, number {n}", options) for n in range(JOBS)))
    assert len({job.job_id for job in ended}) == JOBS
    posts = await stage.stub.posts()
    assert sorted(posts["prompts"].values()) == [1] * JOBS
    assert mesh.rows("router", "SELECT DISTINCT state FROM jobs") == [("SUCCEEDED",)]
    debits = mesh.rows("router", "SELECT job_id, amount_micros FROM ledger_entries WHERE kind = 'DEBIT'")
    assert sorted(debits) == sorted((job.job_id, PENNY) for job in ended)
    assert mesh.rows("router", "SELECT sum(reserved_micros), sum(spent_micros) FROM budgets") == [(0, JOBS * PENNY)]
    async with asyncio.timeout(10):
        while (shares := jobs_by_worker(mesh.home / "telemetry")).total() < JOBS:
            await asyncio.sleep(0.05)
    assert shares.total() == JOBS
    assert len([worker for worker, share in shares.items() if share]) == 2
