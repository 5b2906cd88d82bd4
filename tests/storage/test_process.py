"""The process itself: its settings, a start, a stop, a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2_grpc
from imagemesh.storage.v1 import storage_service_pb2 as pb

from tests.storage.running import SIGNING_KEYS, TOKEN, internal, picture, put_stream

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = picture(1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """`python -m services.storage` with its data in one folder; may be started again after its end."""

    def __init__(self, folder: Path) -> None:
        self.port, self.http_port = free_port(), free_port()
        self.environment = {
            "IMAGEMESH_GRPC_PORT": str(self.port),
            "IMAGEMESH_HTTP_PORT": str(self.http_port),
            "IMAGEMESH_DATABASE_URL": f"sqlite:///{folder / 'truth.db'}",
            "IMAGEMESH_OBJECTS": (folder / "objects").as_uri(),
            "IMAGEMESH_SIGNING_KEYS": SIGNING_KEYS,
            "IMAGEMESH_MESH_TOKEN": TOKEN,
            "IMAGEMESH_NATS_URL": "nats://127.0.0.1:1",
            "IMAGEMESH_ROUTER_TARGET": "127.0.0.1:1",
            "IMAGEMESH_MODERATION_TARGET": "127.0.0.1:1",
            "IMAGEMESH_TELEMETRY_DIR": str(folder / "spans"),
            "IMAGEMESH_DRAIN_SECONDS": "5",
        }

    async def start(self, **changes: str) -> asyncio.subprocess.Process:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}", **self.environment, **changes}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.storage", cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
        )

    async def ready(self, channel: grpc.aio.Channel) -> None:
        async with asyncio.timeout(60):
            await channel.channel_ready()


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


async def test_what_was_acknowledged_survives_a_kill_and_sigterm_ends_cleanly(process: Process, tmp_path: Path) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        first = await process.start()
        await process.ready(channel)
        header = pb.PutAssetHeader(asset_id="ast_kept", kind=asset_pb2.ASSET_KIND_OUTPUT)
        await stub.PutAsset(put_stream(PICTURE, header), metadata=internal())
        first.kill()
        await first.communicate()

        second = await process.start()
        await process.ready(channel)
        read = stub.ReadAsset(pb.ReadAssetRequest(asset_id="ast_kept"), metadata=internal(), wait_for_ready=True)
        assert b"".join([m.chunk.data async for m in read]) == PICTURE
        health = health_pb2_grpc.HealthStub(channel)
        states = {
            name: (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
            for name in ("", "liveness", "readiness", "objects", "nats")
        }
        up, down = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert states == {"": up, "liveness": up, "readiness": up, "objects": up, "nats": down}
        async with aiohttp.ClientSession() as web, web.get(f"http://127.0.0.1:{process.http_port}/healthz") as answer:
            assert answer.status == 200
        second.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(second.communicate(), 20)
        assert second.returncode == 0, log.decode()
        assert TOKEN not in log.decode()
        assert "Traceback" not in log.decode()


BAD = {
    "IMAGEMESH_OBJECTS": "ftp://somewhere",
    "IMAGEMESH_SIGNING_KEYS": "k1:abab",
    "IMAGEMESH_HTTP_PORT": "70000",
    "IMAGEMESH_PUBLIC_URL": "gopher://x",
    "IMAGEMESH_RENDITION_THREADS": "0",
}


async def test_all_bad_variables_are_told_at_once_and_no_secret(process: Process) -> None:
    running = await process.start(**BAD)
    _, log = await running.communicate()
    assert running.returncode == 2
    for name in BAD:
        assert f"{name}:" in log.decode()
    assert "abab" not in log.decode()


async def test_s3_needs_its_credentials(process: Process) -> None:
    running = await process.start(IMAGEMESH_OBJECTS="s3://bucket")
    _, log = await running.communicate()
    assert running.returncode == 2
    for name in ("S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY"):
        assert f"IMAGEMESH_{name}: Value error, must be set when objects lie in s3://" in log.decode()
