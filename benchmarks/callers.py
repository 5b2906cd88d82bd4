"""Who asks for a picture in a benchmark: a client of the mesh, and a client of any server with OpenAI's images API.

Each call ends with the picture's bytes in hand and raises when there are none.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import grpc.aio
from imagemesh.router.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from benchmarks.load import Call

TIMEOUT_S = 120
PNG = b"\x89PNG"


@dataclass(frozen=True)
class Asked:
    """What is asked for: a square picture of a model. tag: makes prompts and request ids of one run distinct."""

    model: str
    edge: int
    tag: str


@asynccontextmanager
async def mesh_caller(target: str, key: str, asked: Asked) -> AsyncIterator[Call]:
    """GenerateImage over gRPC, then GET of the signed address that the last message has."""
    metadata = (("authorization", f"Bearer {key}"),)
    options = [("grpc.max_receive_message_length", 8 * 1024 * 1024)]
    async with (
        grpc.aio.insecure_channel(target, options=options) as channel,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        jobs = job_service_pb2_grpc.JobServiceStub(channel)

        async def one(number: int) -> None:
            spec = job_pb2.GenerationSpec(prompt=f"a red fox, {asked.tag} {number}", model=asked.model)
            spec.size.width = spec.size.height = asked.edge
            stream = jobs.GenerateImage(
                job_service_pb2.GenerateImageRequest(request_id=f"{asked.tag}-{number}", spec=spec),
                metadata=metadata,
                timeout=TIMEOUT_S,
            )
            job = job_pb2.Job()
            async for update in stream:
                if update.HasField("job"):
                    job = update.job
            if job.state != job_pb2.JOB_STATE_SUCCEEDED:
                raise RuntimeError(str(job.error))
            async with http.get(job.images[0].url) as answer:
                answer.raise_for_status()
                _check(await answer.read())

        yield one


@asynccontextmanager
async def openai_caller(base_url: str, key: str, asked: Asked) -> AsyncIterator[Call]:
    """POST images/generations, then base64 decoded. `base_url` ends with /v1."""
    headers = {"Authorization": f"Bearer {key}", "X-Client-Request-Id": asked.tag}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    size = f"{asked.edge}x{asked.edge}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers, timeout=timeout) as http:

        async def one(number: int) -> None:
            body = {"prompt": f"a red fox, {asked.tag} {number}", "model": asked.model, "size": size}
            async with http.post(f"{base_url}/images/generations", json=body) as answer:
                answer.raise_for_status()
                document = json.loads(await answer.read())
            _check(base64.b64decode(document["data"][0]["b64_json"]))

        yield one


def _check(data: bytes) -> None:
    if not data.startswith(PNG):
        raise RuntimeError("no picture came")
