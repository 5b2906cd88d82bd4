"""Waits until the mesh has nothing left to do, for a mesh whose owner went away."""

from __future__ import annotations

import asyncio

import grpc
from imagemesh.router.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

from deploy.local.home import Home, read_json

LONGEST_POLLS = 900
POLL_SECONDS = 1.0
CALL_SECONDS = 5.0
UNFINISHED = job_service_pb2.ListJobsRequest(
    filter=job_service_pb2.JobFilter(states=[job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING]), page_size=1
)


async def until_idle(home: Home) -> None:
    """Returns when no job of the development key's tenant is unfinished, at the latest after a quarter of an hour."""
    target = str((read_json(home.endpoints) or {}).get("router", ""))
    if not target or not home.development_key.exists():
        return
    key = home.development_key.read_text(encoding="utf-8").strip()
    async with grpc.aio.insecure_channel(target) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        for _ in range(LONGEST_POLLS):
            if not await _busy(stub, key):
                return
            await asyncio.sleep(POLL_SECONDS)


async def _busy(stub: job_service_pb2_grpc.JobServiceAsyncStub, key: str) -> bool:
    try:
        answer = await stub.ListJobs(UNFINISHED, timeout=CALL_SECONDS, metadata=(("authorization", f"Bearer {key}"),))
    except grpc.aio.AioRpcError as error:
        return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return bool(answer.jobs)
