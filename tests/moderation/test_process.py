"""The real process: it serves, keeps prompts to itself, and stops when told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import psutil
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import moderation_service_pb2_grpc, verdict_pb2

from tests.moderation.pictures import encode, scene
from tests.moderation.running import TOKEN, internal

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hardcore porn with a woman called Zanzibar"


def environment(folder: Path, **own: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}",
        "IMAGEMESH_DATABASE_URL": f"sqlite:///{folder / 'm.db'}",
        "IMAGEMESH_MESH_TOKEN": TOKEN,
        "IMAGEMESH_NATS_URL": "nats://127.0.0.1:1",
        "IMAGEMESH_TELEMETRY_DIR": str(folder / "spans"),
        **own,
    }


@asynccontextmanager
async def started(folder: Path, **own: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.moderation", env=environment(folder, **own), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def served_port(process: asyncio.subprocess.Process) -> tuple[int, list[str]]:
    """The port from the log line that says so, and the lines up to it."""
    assert process.stderr is not None
    lines = []
    async for raw in process.stderr:
        lines.append(raw.decode())
        if '"event": "serving"' in lines[-1]:
            return int(json.loads(lines[-1])["port"]), lines
    raise AssertionError("".join(lines))


async def test_a_prompt_stays_out_of_logs_spans_and_database(tmp_path: Path) -> None:
    async with started(tmp_path, IMAGEMESH_LOG_LEVEL="debug") as process:
        port, lines = await served_port(process)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = moderation_service_pb2_grpc.ModerationServiceStub(channel)
            texts = [pb.PromptText(kind=verdict_pb2.TEXT_KIND_PROMPT, text=SECRET)]
            answer = await stub.ModeratePrompt(
                pb.ModeratePromptRequest(texts=texts, job_id="job_1"), metadata=internal()
            )
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        lines.append((await process.stderr.read()).decode())
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert answer.verdict.decision == verdict_pb2.DECISION_BLOCK
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    spans = "".join(path.read_text() for path in written if path.suffix == ".jsonl")
    assert answer.verdict.sha256 in spans
    assert "Zanzibar" not in "".join(lines)
    assert all(b"Zanzibar" not in path.read_bytes() for path in written)


async def test_a_wrong_policy_file_ends_the_start(tmp_path: Path) -> None:
    policy = tmp_path / "mine.yaml"
    policy.write_text("policy: mine\nversion: nought\n")
    async with started(tmp_path, IMAGEMESH_POLICY=str(policy)) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert f"{policy}: version: " in errors.decode()
    assert f"{policy}: thresholds: Field required" in errors.decode()


async def test_a_plug_in_without_its_key_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "classifiers.yaml"
    path.write_text(
        "classifiers: [{name: openai, key_env: KEY_OF_NOBODY}, {name: eyes, kind: rekognition, color: red}]"
    )
    async with started(tmp_path, IMAGEMESH_CLASSIFIERS=str(path)) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert "classifiers.1.color" in errors.decode()
    path.write_text("classifiers: [{name: openai, key_env: KEY_OF_NOBODY}]")
    async with started(tmp_path, IMAGEMESH_CLASSIFIERS=str(path)) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert "openai: KEY_OF_NOBODY is not set" in errors.decode()


async def test_a_plug_in_that_cannot_be_made_ends_the_start(tmp_path: Path) -> None:
    path = tmp_path / "classifiers.yaml"
    path.write_text("classifiers: [{name: eyes, kind: rekognition, region: eu-west-1}]")
    async with started(tmp_path, IMAGEMESH_CLASSIFIERS=str(path)) as process:
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert "classifier eyes: key_env, extra_env.access_key_id: required" in errors.decode()


async def test_all_models_take_less_than_400_mb_and_no_torch(tmp_path: Path) -> None:
    async with started(tmp_path) as process:
        port, _ = await served_port(process)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = moderation_service_pb2_grpc.ModerationServiceStub(channel)
            texts = [pb.PromptText(kind=verdict_pb2.TEXT_KIND_PROMPT, text="a lighthouse at dusk, oil on canvas")]
            await stub.ModeratePrompt(pb.ModeratePromptRequest(texts=texts), metadata=internal())
            for seed in range(4):
                request = pb.ModerateImageRequest(inline=encode(scene(seed, 1024), ".jpg"))
                await stub.ModerateImage(request, metadata=internal())
        running = psutil.Process(process.pid)
        assert running.memory_info().rss < 400e6
        assert not any("torch" in mapped.path for mapped in running.memory_maps())
