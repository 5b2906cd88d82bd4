"""Acknowledged submits per second: the router's API alone, workers stopped, every job on disk before its reply.

The floor is a server of the same gRPC library that answers the same message and stores nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
from imagemesh.router.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from benchmarks.load import Result, closed_loop
from deploy.local.checks import GrpcReady
from tests.conftest import NatsServer, free_port, nats_binary

CONCURRENCIES = (1, 16, 64)


async def measure(folder: Path) -> dict[str, list[Result]]:
    """Results for each of CONCURRENCIES: of the router, and of the floor."""
    async with _router(folder) as (target, key):
        router = [await _submits(target, key, concurrency) for concurrency in CONCURRENCIES]
    async with _echo() as target:
        floor = [await _submits(target, "none", concurrency) for concurrency in CONCURRENCIES]
    return {"submits": router, "floor: same rpc, nothing stored": floor}


async def _submits(target: str, key: str, concurrency: int) -> Result:
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(target) as channel:
        jobs = job_service_pb2_grpc.JobServiceStub(channel)

        async def submit(number: int) -> None:
            spec = job_pb2.GenerationSpec(prompt=f"a red fox, number {number}", model="picture")
            request = job_service_pb2.CreateJobRequest(request_id=f"c{concurrency}-{number}", spec=spec)
            await jobs.CreateJob(request, metadata=metadata, timeout=30)

        await submit(-1)
        return await closed_loop(submit, concurrency, 300 if concurrency == 1 else 5000)


@asynccontextmanager
async def _router(folder: Path) -> AsyncIterator[tuple[str, str]]:
    from tests.e2e.stubs import KEY, KEY_ENV, Stub, write_catalog

    folder.mkdir(parents=True)
    nowhere = Stub("nowhere", "http://127.0.0.1:1/v1", None)  # type: ignore[arg-type]  # nobody is called
    nats = NatsServer(nats_binary() or "nats-server", folder / "nats")
    await nats.start()
    port = free_port()
    environment = {
        **os.environ,
        KEY_ENV: KEY,
        "IMAGEMESH_GRPC_PORT": str(port),
        "IMAGEMESH_HTTP_PORT": str(free_port()),
        "IMAGEMESH_NATS_URL": nats.url,
        "IMAGEMESH_DATABASE_URL": f"sqlite:///{folder / 'router.sqlite'}",
        "IMAGEMESH_MESH_TOKEN": "benchmark-mesh-token",
        "IMAGEMESH_CATALOG": str(write_catalog(folder / "catalog.yaml", [nowhere])),
        "IMAGEMESH_BOOTSTRAP_KEY_FILE": str(folder / "key"),
        "IMAGEMESH_TRACE_RATIO": "0.01",
        "IMAGEMESH_QUEUE_LIMIT": "1000000",
    }
    api = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.router", "api", env=environment)
    try:
        async with asyncio.timeout(60):
            while not await GrpcReady(port).ready():
                await asyncio.sleep(0.1)
        yield f"127.0.0.1:{port}", (folder / "key").read_text(encoding="utf-8").strip()
    finally:
        api.terminate()
        await api.wait()
        await nats.kill()


class _Echo(job_service_pb2_grpc.JobServiceServicer):
    async def CreateJob(  # noqa: N802
        self, request: job_service_pb2.CreateJobRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> job_service_pb2.CreateJobResponse:
        return job_service_pb2.CreateJobResponse(job=job_pb2.Job(job_id=request.request_id, spec=request.spec))


async def serve_echo() -> None:
    """The floor's process: prints its port and serves until killed."""
    server = grpc.aio.server()
    job_service_pb2_grpc.add_JobServiceServicer_to_server(_Echo(), server)  # type: ignore[abstract]  # one rpc
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@asynccontextmanager
async def _echo() -> AsyncIterator[str]:
    command = "import asyncio; from benchmarks.submits import serve_echo; asyncio.run(serve_echo())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()
