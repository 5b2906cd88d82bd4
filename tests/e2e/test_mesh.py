"""The whole mesh, from the caller's side: what is drawn, cached, traced, canceled and refused."""

import asyncio
import hashlib
import json
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2
from imagemesh.errors import ImagemeshError, from_call
from imagemesh.generation import Options
from imagemesh.router.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc
from imagemesh.type.v1 import image_pb2

from tests.e2e.local_mesh import LocalMesh, local_mesh

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

CREATE = "/imagemesh.router.v1.JobService/CreateJob"


@pytest.fixture(scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalMesh]:
    async with local_mesh(tmp_path_factory.mktemp("mesh") / "home", {}) as mesh:
        yield mesh


def spans(mesh: LocalMesh, trace_id: str) -> list[dict[str, object]]:
    found = []
    for path in (mesh.home / "telemetry").glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            span = json.loads(line)
            if span["trace_id"] == trace_id and span["event"] == "end":
                found.append(span)
    return found


async def test_the_same_seed_draws_the_same_bytes_and_then_comes_from_the_cache(mesh: LocalMesh) -> None:
    async with mesh.client() as client:
        first = await client.generate("a red circle on a white background", Options(seed=7, cache="bypass"))
        second = await client.generate("a red circle on a white background", Options(seed=7, cache="bypass"))
        cached = await client.generate("a red circle on a white background", Options(seed=7))
        pictures = [await client.picture(job, 0) for job in (first, second, cached)]
    assert pictures[0] == pictures[1] == pictures[2]
    assert [job.cache_hit for job in (first, second, cached)] == [False, False, True]
    assert (cached.cost.units, cached.cost.nanos) == (0, 0)
    assert first.cost.nanos > 0


async def test_one_trace_runs_from_the_api_to_the_engine(mesh: LocalMesh) -> None:
    async with mesh.client() as client:
        job = await client.generate("a blue square", Options(cache="bypass"))
    engine = "triton" if mesh.endpoints["engine"] == "triton" else "inference"
    wanted = {"router-api", "router-worker", "inference", "moderation", "storage", engine}
    async with asyncio.timeout(10):
        while not wanted <= {str(span["service"]) for span in spans(mesh, job.trace_id)}:
            await asyncio.sleep(0.1)
    text = json.dumps(spans(mesh, job.trace_id))
    assert "a blue square" not in text


async def test_cancel_reaches_the_engine_and_frees_it(mesh: LocalMesh) -> None:
    async with mesh.client() as client:
        long = await client.create("a green tree", Options(steps=150, size=(256, 256), count=4, cache="bypass"))
        async for update in client.watch(long.job_id):
            if update.HasField("progress"):
                await client.cancel(long.job_id)
        ended = await client.get(long.job_id)
        assert ended.state == job_pb2.JOB_STATE_CANCELED
        async with asyncio.timeout(60):
            await client.generate("a red circle", Options(steps=2, cache="bypass"))


async def test_a_blocked_prompt_is_never_drawn(mesh: LocalMesh) -> None:
    async with mesh.client() as client:
        job = await client.create("explicit hardcore pornography")
        async for _ in client.watch(job.job_id):
            pass
        ended = await client.get(job.job_id)
    assert (ended.state, ended.blocked_by) == (job_pb2.JOB_STATE_BLOCKED, job_pb2.BLOCKED_BY_PROMPT)
    assert not ended.attempts


def png_bomb() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


def request(**spec: object) -> job_service_pb2.CreateJobRequest:
    return job_service_pb2.CreateJobRequest(spec=job_pb2.GenerationSpec(**{"prompt": "a fox", "model": "demo", **spec}))


BAD = {
    "empty prompt": (request(prompt=""), "INVALID_ARGUMENT", "INVALID_FIELD", "spec.prompt"),
    "long prompt": (request(prompt="x" * 32_001), "INVALID_ARGUMENT", "INVALID_FIELD", "spec.prompt"),
    "size 0": (request(size=image_pb2.ImageSize()), "INVALID_ARGUMENT", "INVALID_FIELD", "spec.size.width"),
    "size 100,000": (
        request(size=image_pb2.ImageSize(width=100_000, height=64)),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "spec.size.width",
    ),
    "unknown model": (request(model="dmeo"), "NOT_FOUND", "MODEL_NOT_FOUND", "demo"),
    "negative count": (request(count=-1), "INVALID_ARGUMENT", "INVALID_FIELD", "spec.count"),
    "conflict": (
        request(mask=image_pb2.ImageSource(asset_id="ast_1")),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "spec.mask",
    ),
}


async def refused(mesh: LocalMesh, method: str, body: object, key: str | None = None) -> ImagemeshError:
    """The error of one JobService call."""
    metadata = (("authorization", f"Bearer {mesh.api_key if key is None else key}"),)
    async with grpc.aio.insecure_channel(mesh.endpoints["router"]) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, method)(body, metadata=metadata, timeout=30)
    return from_call(caught.value, "router")


@pytest.mark.parametrize("name", BAD)
async def test_bad_specs_are_refused_by_field(mesh: LocalMesh, name: str) -> None:
    body, code, reason, told = BAD[name]
    error = await refused(mesh, "CreateJob", body)
    assert (error.code, error.reason) == (code, reason)
    assert told in str(error) + str(error.details)


async def test_unknown_and_foreign_jobs_are_not_found(mesh: LocalMesh) -> None:
    error = await refused(mesh, "GetJob", job_service_pb2.GetJobRequest(job_id="job_" + "0" * 26))
    assert (error.code, error.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")


@pytest.mark.parametrize(("key", "reason"), [("", "KEY_MISSING"), ("imk_wrong", "KEY_INVALID")])
async def test_keys_are_demanded(mesh: LocalMesh, key: str, reason: str) -> None:
    error = await refused(mesh, "GetJob", job_service_pb2.GetJobRequest(job_id="x"), key)
    assert (error.code, error.reason) == ("UNAUTHENTICATED", reason)


async def test_a_request_id_with_another_body_is_refused(mesh: LocalMesh) -> None:
    first = request(prompt="one")
    first.request_id = "e2e-reused"
    first.options.deadline.CopyFrom(duration_pb2.Duration(seconds=60))
    async with mesh.client() as client:
        job = await client.call(client.jobs.CreateJob, first)
        again = await client.call(client.jobs.CreateJob, first)
    assert again.job.job_id == job.job.job_id
    first.spec.prompt = "another"
    error = await refused(mesh, "CreateJob", first)
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(png_bomb(), "IMAGE_TOO_LARGE"), (b"\x89PNG\r\n\x1a\nbroken", "IMAGE_UNREADABLE")],
    ids=["bomb", "truncated"],
)
async def test_bad_uploads_are_refused(mesh: LocalMesh, data: bytes, reason: str) -> None:
    async def parts() -> AsyncIterator[storage_service_pb2.PutAssetRequest]:
        header = storage_service_pb2.PutAssetRequest()
        header.header.kind = asset_pb2.ASSET_KIND_INPUT
        yield header
        chunk = storage_service_pb2.PutAssetRequest()
        chunk.chunk.data = data
        chunk.chunk.last = True
        chunk.chunk.sha256 = hashlib.sha256(data).hexdigest()
        yield chunk

    metadata = (("authorization", f"Bearer {mesh.api_key}"),)
    async with grpc.aio.insecure_channel(mesh.endpoints["storage"]) as channel:
        stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.PutAsset(parts(), metadata=metadata, timeout=30)
    error = from_call(caught.value, "storage")
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason)


async def test_garbage_is_told_as_such(mesh: LocalMesh) -> None:
    metadata = (("authorization", f"Bearer {mesh.api_key}"),)
    async with grpc.aio.insecure_channel(mesh.endpoints["router"]) as channel:
        call = channel.unary_unary(CREATE)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff\xff", metadata=metadata, timeout=30)
    error = from_call(caught.value, "router")
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


async def test_nothing_is_left_after_a_stop(tmp_path: Path) -> None:
    async with local_mesh(tmp_path / "home", {"IMAGEMESH_INFERENCE_ENGINE": "inprocess"}) as mesh:
        pids = [process["pid"] for process in mesh.processes().values()]
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
