"""A process that is killed loses no record it spoke of, and the next one takes the checkpoint up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import grpc.aio
from imagemesh.moderation.v1 import moderation_service_pb2 as pb
from imagemesh.moderation.v1 import moderation_service_pb2_grpc, verdict_pb2

from services.moderation.checkpointing import mark
from tests.moderation.audit_rig import rig
from tests.moderation.running import internal
from tests.moderation.test_process import served_port, started


async def ask(port: int, told: list[str], count: int) -> None:
    """Prompts at once; the verdicts that came back."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = moderation_service_pb2_grpc.ModerationServiceStub(channel)

        async def one(number: int) -> None:
            texts = [pb.PromptText(kind=verdict_pb2.TEXT_KIND_PROMPT, text=f"cat number {number}")]
            request = pb.ModeratePromptRequest(texts=texts, job_id=f"job_{number}", user="ann")
            told.append((await stub.ModeratePrompt(request, metadata=internal())).verdict.verdict_id)

        with suppress(grpc.aio.AioRpcError):
            await asyncio.gather(*map(one, range(count)))


async def test_killed_between_commit_and_checkpoint_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    told: list[str] = []
    async with started(tmp_path, IMAGEMESH_AUDIT_CHECKPOINTS=folder.as_uri()) as process:
        port, _ = await served_port(process)
        asking = asyncio.create_task(ask(port, told, 200))
        async with asyncio.timeout(60):
            while len(told) < 20:
                await asyncio.sleep(0.001)
        process.kill()
        await process.wait()
        await asking
    assert not folder.exists()  # the first turn found nothing to mark, the second is a minute away
    async with started(tmp_path, IMAGEMESH_AUDIT_CHECKPOINTS=folder.as_uri()) as process:
        await served_port(process)
        async with asyncio.timeout(60):
            while not list(folder.glob("*.json")):
                await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
    async with rig(f"sqlite:///{tmp_path / 'm.db'}", folder) as audit:
        report = await audit.verify()
        rows = await audit.rows()
        assert (report.broken, report.checked) == (None, len(rows))
        assert set(told) <= {row["verdict_id"] for row in rows}
        assert report.newest is not None
        assert report.newest.sequence == len(rows)


async def test_killed_between_the_row_and_the_object_the_object_follows(tmp_path: Path) -> None:
    async with rig(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path / "checkpoints") as audit:
        await audit.append(3)
        await audit.database.write(mark)
    async with rig(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path / "checkpoints") as audit:
        assert await audit.stored() == []
        await audit.checkpoint()
        assert await audit.stored() == [3]
        assert await audit.broken() == 0
