"""The whole mesh on the parts of production: PostgreSQL and an S3 server, in place of SQLite and a folder."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import minio
import pytest
from imagemesh.aio import AsyncClient
from imagemesh.generation import Options
from imagemesh.router.v1 import catalog_pb2, catalog_service_pb2, job_pb2

from tests.chaos.crashes import OWN, Scene, scene
from tests.conftest import PostgresServer
from tests.e2e.local_mesh import LocalMesh
from tests.e2e.production import production
from tests.e2e.stubs import MODEL
from tests.storage.s3_server import ACCESS, SECRET, S3Server

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ROUND = "a red circle on a white background"


@dataclass(frozen=True)
class Bucket:
    """The originals as the S3 server has them."""

    client: minio.Minio
    name: str

    def objects(self) -> dict[str, bytes]:
        names = [found.object_name or "" for found in self.client.list_objects(self.name, recursive=True)]
        return {name: self.client.get_object(self.name, name).data for name in names}


@dataclass(frozen=True)
class Stage:
    scene: Scene
    bucket: Bucket

    @property
    def mesh(self) -> LocalMesh:
        return self.scene.mesh


@pytest.fixture(scope="module")
async def stage(
    postgres: PostgresServer, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    parts = await production(postgres, s3_server)
    client = minio.Minio(f"127.0.0.1:{s3_server.port}", access_key=ACCESS, secret_key=SECRET, secure=False)
    async with scene(tmp_path_factory.mktemp("production"), parts.environment, parts.truth) as running:
        yield Stage(running, Bucket(client, parts.bucket))


async def test_nothing_is_kept_in_the_embedded_parts(stage: Stage) -> None:
    assert {path.name for path in (stage.mesh.home / "data").iterdir()} <= {"nats"}


async def test_the_same_seed_draws_the_same_bytes_and_then_comes_from_the_cache(stage: Stage) -> None:
    async with stage.mesh.client() as client:
        first = await client.generate(ROUND, Options(model=OWN, seed=7, steps=4, cache="bypass"))
        second = await client.generate(ROUND, Options(model=OWN, seed=7, steps=4, cache="bypass"))
        cached = await client.generate(ROUND, Options(model=OWN, seed=7, steps=4))
        pictures = [await client.picture(job, 0) for job in (first, second, cached)]
    assert pictures[0] == pictures[1] == pictures[2]
    assert [job.cache_hit for job in (first, second, cached)] == [False, False, True]
    assert (cached.cost.units, cached.cost.nanos) == (0, 0)
    assert pictures[0] in (await asyncio.to_thread(stage.bucket.objects)).values()


async def test_a_signed_address_serves_the_original_and_nothing_else(stage: Stage) -> None:
    async with stage.mesh.client() as client:
        job = await client.generate(ROUND, Options(model=OWN, seed=8, steps=2))
        picture = await client.picture(job, 0)
    url = job.images[0].url
    assert url.startswith(stage.mesh.endpoints["storage_http"])
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as whole:
            assert (whole.status, await whole.read()) == (200, picture)
        async with session.get(url, headers={"Range": "bytes=0-7"}) as part:
            assert (part.status, await part.read()) == (206, picture[:8])
        async with session.get(url[:-4] + "0000") as tampered:
            assert tampered.status == 403


async def test_cancel_reaches_the_engine(stage: Stage) -> None:
    async with stage.mesh.client() as client:
        long = await client.create("a green tree", Options(model=OWN, steps=150, size=(256, 256), cache="bypass"))
        async for update in client.watch(long.job_id):
            if update.HasField("progress"):
                await client.cancel(long.job_id)
        ended = await client.get(long.job_id)
    assert ended.state == job_pb2.JOB_STATE_CANCELED
    assert not [image for image in ended.images if image.asset_id]


@pytest.mark.parametrize("model", [OWN, MODEL])
async def test_a_killed_worker_breaks_no_promise(stage: Stage, model: str) -> None:
    crashed = await stage.scene.kill_during_jobs("router-worker", model, jobs=5)
    assert not crashed.broken_promises()


async def stub_health(client: AsyncClient) -> list[catalog_pb2.ProviderHealth]:
    listed = await client.call(client.catalog.ListProviders, catalog_service_pb2.ListProvidersRequest())
    return [health for provider in listed.providers if provider.kind == "openai" for health in provider.health]


async def test_a_provider_that_keeps_failing_is_listed_as_not_called(stage: Stage) -> None:
    async with stage.mesh.client() as client, asyncio.timeout(20):
        await asyncio.gather(*(client.create(f"fail:reset number {n}", Options(model=MODEL)) for n in range(8)))
        while not any(health.breaker == catalog_pb2.BREAKER_STATE_OPEN for health in await stub_health(client)):
            await asyncio.sleep(0.05)
