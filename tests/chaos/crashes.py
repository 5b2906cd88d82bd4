"""What happens to jobs when processes are killed: the scenarios, and the promises that every one must keep.

Each scenario runs jobs of two catalog models on one mesh of real processes: `demo`, drawn by the own engine, and
`picture`, served by two OpenAI-compatible stubs that count what they are asked.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from imagemesh.calls import new_request_id
from imagemesh.generation import Options, to_job_options, to_spec
from imagemesh.router.v1 import job_pb2, job_service_pb2

from services.router.catalog_file import DEFAULT_CATALOG
from tests.e2e.local_mesh import LocalMesh, local_mesh
from tests.e2e.stubs import KEY, KEY_ENV, MODEL, Stub, stubs, write_catalog
from tests.e2e.truth import Truth
from tests.router.fakes.pictures import picture

OWN = "demo"
END_SECONDS = 300.0
DRAWN_STEPS = 20
STUB_LATENCY_MS = 150.0
ENDED = ("SUCCEEDED", "FAILED", "BLOCKED", "CANCELED")


@dataclass(frozen=True)
class Crashed:
    """One scenario's end.

    reservations: keys with money reserved, though no job is unfinished. doubled: attempts that a stub was asked for
    twice. stray: published, but in no job. retried: attempts beyond each job's first.
    """

    scenario: str
    model: str
    jobs: int
    succeeded: int
    unknown: int
    others: tuple[str, ...]
    debits: int
    reservations: int
    doubled: int
    stray: int
    retried: int
    seconds: float

    def broken_promises(self) -> list[str]:
        """Empty when every promise was kept."""
        told = []
        if self.others:
            told.append(f"jobs that did not succeed: {self.others}")
        if self.unknown and self.model == OWN:
            told.append(f"{self.unknown} outcomes unknown at a provider that may be asked again")
        if self.succeeded + self.unknown + len(self.others) != self.jobs:
            told.append("jobs were lost")
        if self.debits != self.succeeded:
            told.append(f"{self.debits} debits for {self.succeeded} jobs")
        if self.reservations:
            told.append(f"money is still reserved for {self.reservations} keys")
        if self.doubled:
            told.append(f"{self.doubled} attempts were POSTed twice")
        if self.stray:
            told.append(f"{self.stray} published assets belong to no job")
        return told


class Scene:
    """A mesh and its stubs, ready for crashes."""

    def __init__(self, mesh: LocalMesh, running: Sequence[Stub], pause: Path) -> None:
        self.mesh = mesh
        self._stubs = running
        self._pause = pause

    async def kill_during_jobs(self, process: str, model: str, jobs: int) -> Crashed:
        """SIGKILL for one process while the jobs run; the launcher starts it again."""
        began = time.monotonic()
        ids = await self.submit(model, jobs)
        await self._until_running(ids)
        restarts = await self.mesh.kill(process)
        await self._until_ended(ids)
        await self.mesh.ready(process, restarts + 1)
        return await self._account(f"kill {process}", model, ids, began)

    async def restart_while_drawing(self, process: str, jobs: int, *, gently: bool) -> Crashed:
        """SIGTERM or SIGKILL for the own engine's process while it draws; the launcher starts it again."""
        began = time.monotonic()
        ids = await self.submit(OWN, jobs)
        await self._until_attempted(ids)
        restarts = await (self.mesh.terminate(process) if gently else self.mesh.kill(process))
        await self._until_ended(ids)
        await self.mesh.ready(process, restarts + 1)
        return await self._account(f"{'restart' if gently else 'kill'} {process} at work", OWN, ids, began)

    async def kill_worker_at(self, point: str, model: str, jobs: int) -> Crashed:
        """SIGKILL for the worker while one of its jobs stands before or after a step (`before:store`)."""
        began = time.monotonic()
        self._pause.write_text(point, encoding="utf-8")
        ids = await self.submit(model, jobs, edits=point.endswith("_inputs"))
        reached = self._pause.with_suffix(".reached")
        async with asyncio.timeout(60):
            while not reached.exists():
                await asyncio.sleep(0.02)
        restarts = await self.mesh.kill("router-worker")
        reached.unlink()
        await self._until_ended(ids)
        await self.mesh.ready("router-worker", restarts + 1)
        return await self._account(f"kill worker {point}", model, ids, began)

    async def lose_jetstream(self, jobs: int) -> Crashed:
        """Kills nats-server and deletes its store while jobs wait."""
        began = time.monotonic()
        ids = await self.submit(MODEL, jobs)
        restarts = await self.mesh.kill("nats-server")
        shutil.rmtree(self.mesh.home / "data" / "nats", ignore_errors=True)
        await self._until_ended(ids)
        await self.mesh.ready("nats-server", restarts + 1)
        return await self._account("delete JetStream's store", MODEL, ids, began)

    async def submit(self, model: str, jobs: int, *, edits: bool = False) -> list[str]:
        """Acknowledged jobs; the client repeats unanswered calls with the same request id. `edits` start from a
        picture, so that there is something to bring in."""
        options = Options(model=model, steps=DRAWN_STEPS if model == OWN else None, cache="bypass")
        requests = [_request(f"a green triangle number {number}", options, edits) for number in range(jobs)]
        async with self.mesh.client() as client:
            created = await asyncio.gather(*(client.call(client.jobs.CreateJob, request) for request in requests))
        return [answer.job.job_id for answer in created]

    async def _until_running(self, ids: Sequence[str]) -> None:
        async with asyncio.timeout(60):
            while not self._states(ids)["RUNNING"]:
                await asyncio.sleep(0.01)

    async def _until_attempted(self, ids: Sequence[str]) -> None:
        query = f"SELECT 1 FROM attempts WHERE state = 'RUNNING' AND {_among(ids)}"
        async with asyncio.timeout(60):
            while not self.mesh.rows("router", query):
                await asyncio.sleep(0.01)

    async def _until_ended(self, ids: Sequence[str]) -> None:
        async with asyncio.timeout(END_SECONDS):
            while sum(self._states(ids)[state] for state in ENDED) < len(ids):
                await asyncio.sleep(0.1)

    def _states(self, ids: Sequence[str]) -> Counter[str]:
        return Counter(state for (state,) in self.mesh.rows("router", f"SELECT state FROM jobs WHERE {_among(ids)}"))

    async def _account(self, scenario: str, model: str, ids: Sequence[str], began: float) -> Crashed:
        rows = self.mesh.rows("router", f"SELECT state, error_reason FROM jobs WHERE {_among(ids)}")
        unknown = [row for row in rows if row == ("FAILED", "ATTEMPT_OUTCOME_UNKNOWN")]
        others = [
            f"{state} {reason}" for state, reason in rows if state != "SUCCEEDED" and (state, reason) not in unknown
        ]
        debits = self.mesh.rows("router", f"SELECT 1 FROM ledger_entries WHERE kind = 'DEBIT' AND {_among(ids)}")
        attempts = self.mesh.rows("router", f"SELECT 1 FROM attempts WHERE {_among(ids)}")
        open_ = self.mesh.rows("router", "SELECT 1 FROM budgets WHERE reserved_micros != 0")
        return Crashed(
            scenario=scenario,
            model=model,
            jobs=len(ids),
            succeeded=sum(state == "SUCCEEDED" for state, _ in rows),
            unknown=len(unknown),
            others=tuple(others),
            debits=len(debits),
            reservations=len(open_),
            doubled=await self._doubled(),
            stray=self._stray(ids),
            retried=max(0, len(attempts) - len(ids)),
            seconds=time.monotonic() - began,
        )

    async def _doubled(self) -> int:
        counts = [count for stub in self._stubs for count in (await stub.posts())["attempts"].values()]
        return sum(count > 1 for count in counts)

    def _stray(self, ids: Sequence[str]) -> int:
        """Published assets of these jobs that are not among the pictures the jobs name."""
        published = {
            asset
            for (asset,) in self.mesh.rows(
                "storage", f"SELECT asset_id FROM assets WHERE state = 'PUBLISHED' AND {_among(ids)}"
            )
        }
        images = b"".join(blob for (blob,) in self.mesh.rows("router", f"SELECT images FROM jobs WHERE {_among(ids)}"))
        return sum(asset.encode() not in images for asset in published)


@asynccontextmanager
async def scene(
    folder: Path, parts: Mapping[str, str] | None = None, truth: Truth | None = None
) -> AsyncIterator[Scene]:
    """A mesh with both models, on the embedded parts and on Triton where it runs, unless `parts` (variables) and
    `truth` (see `local_mesh`) say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    async with stubs(["stub-a", "stub-b"], "tiny", STUB_LATENCY_MS) as running:
        pause = folder / "pause"
        environment = {
            KEY_ENV: KEY,
            "IMAGEMESH_CATALOG": str(_both(folder / "catalog.yaml", running)),
            "IMAGEMESH_TEST_PAUSE_FILE": str(pause),
            "IMAGEMESH_LEASE_SECONDS": "3",
            **(parts or {}),
        }
        async with local_mesh(folder / "home", environment, truth) as mesh:
            yield Scene(mesh, running, pause)


def _request(prompt: str, options: Options, edits: bool) -> job_service_pb2.CreateJobRequest:
    spec = to_spec(prompt, options)
    if edits:
        spec.operation = job_pb2.OPERATION_EDIT
        spec.images.add(inline=picture("tiny").png(0))
    return job_service_pb2.CreateJobRequest(request_id=new_request_id(), spec=spec, options=to_job_options(options))


def _both(path: Path, running: Sequence[Stub]) -> Path:
    """The shipped catalog's own engine and the stubs, in one file."""
    stubbed = yaml.safe_load(write_catalog(path, running).read_text(encoding="utf-8"))
    own = yaml.safe_load(DEFAULT_CATALOG.read_text(encoding="utf-8"))
    stubbed["providers"] += [provider for provider in own["providers"] if provider["id"] == "imagemesh"]
    stubbed["models"] += [model for model in own["models"] if model["id"] == OWN]
    path.write_text(yaml.safe_dump(stubbed), encoding="utf-8")
    return path


def _among(ids: Sequence[str]) -> str:
    return "job_id IN (" + ", ".join(f"'{job_id}'" for job_id in ids) + ")"
