"""A source picture and the prompt of its job, judged together by the real moderation service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

from mesh.channel import ChannelConfig, open_channel
from services.router.leases import Ended
from services.router.peers.moderation import ModerationPeer
from services.router.tables import jobs
from tests.moderation.pictures import encode, scene
from tests.moderation.running import TOKEN, Running, running
from tests.moderation.test_minors_in_pictures import AGE, adults_only, shows
from tests.router.rig import FakeStorage, Rig
from tests.router.stores import Stores

SOURCE = encode(scene(1))


class FromStorage:
    """The pictures of the rig's storage, for moderation."""

    def __init__(self, storage: FakeStorage) -> None:
        self._storage = storage

    async def read(self, asset_id: str, tenant: str) -> bytes:
        row = self._storage.rows[asset_id]
        assert row.tenant == tenant
        return row.data


@pytest.fixture
async def moderation(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(f"sqlite:///{tmp_path / 'moderation.db'}") as service:
        await adults_only(service)
        yield service


@pytest.fixture
async def rig(stores: Stores, tmp_path: Path, moderation: Running) -> AsyncIterator[Rig]:
    rig = Rig(stores, tmp_path)
    channel = open_channel(ChannelConfig(f"127.0.0.1:{moderation.moderation.server.port}", TOKEN))
    rig.pipeline._parts.judge._moderation = ModerationPeer(channel)
    moderation.moderation.judge._assets = FromStorage(rig.storage)  # type: ignore[assignment]
    yield rig
    await channel.close()


async def edited(
    rig: Rig, prompt: str, operation: job_pb2.Operation.ValueType = job_pb2.OPERATION_EDIT
) -> tuple[str, str]:
    """State and cause of a job that changes the source as the prompt says."""
    await rig.submit(operation=operation, prompt=prompt, images=[image_pb2.ImageSource()], inputs={"images[0]": SOURCE})
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    (row,) = await rig.stores.rows(jobs)
    return row.state, row.blocked_by


async def test_a_sexual_source_beside_a_prompt_about_a_child_reaches_no_provider(rig: Rig, moderation: Running) -> None:
    shows(moderation, 0.9)
    assert await edited(rig, AGE) == ("BLOCKED", "INPUT")
    assert rig.one.calls == []


async def test_each_of_them_is_let_through_alone(rig: Rig, moderation: Running) -> None:
    shows(moderation, 0.9)
    assert (await edited(rig, "a woman at the beach"))[0] == "SUCCEEDED"


async def test_a_source_that_shows_nothing_is_let_through_beside_the_child(rig: Rig, moderation: Running) -> None:
    shows(moderation, 0.0)
    assert (await edited(rig, AGE))[0] == "SUCCEEDED"


async def test_a_job_that_says_nothing_is_judged_by_its_pictures(rig: Rig, moderation: Running) -> None:
    shows(moderation, 0.0)
    assert (await edited(rig, "", job_pb2.OPERATION_REMOVE_BACKGROUND))[0] == "SUCCEEDED"
