"""What people decide, over the whole mesh on PostgreSQL with two storage processes, as its callers see it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from imagemesh.generation import Options
from imagemesh.moderation.v1 import moderation_service_pb2 as moderation_pb2
from imagemesh.moderation.v1 import (
    moderation_service_pb2_grpc,
    policy_pb2,
    review_pb2,
    review_service_pb2_grpc,
    verdict_pb2,
)
from imagemesh.moderation.v1 import review_service_pb2 as pb
from imagemesh.router.v1 import api_key_service_pb2, api_key_service_pb2_grpc, job_pb2
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc
from imagemesh.type.v1 import access_pb2, image_pb2

from deploy.local.ports import Reservations, choose_ports
from mesh.ids import derived_id
from services.storage.signing import KeyRing, sign
from tests.conftest import PostgresServer
from tests.e2e.local_mesh import LocalMesh, local_mesh
from tests.e2e.production import production
from tests.e2e.stubs import KEY, KEY_ENV, MODEL, stubs, write_catalog
from tests.e2e.up import FREE
from tests.moderation.pictures import encode, scene

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

ALLOW, BLOCK, REVIEW = verdict_pb2.DECISION_ALLOW, verdict_pb2.DECISION_BLOCK, verdict_pb2.DECISION_REVIEW
RENDITIONS = ("", "w=32&f=webp", "w=48&h=48&f=jpeg", "f=png")
DRAW = Options(model=MODEL, cache="bypass")


@dataclass
class Stage:
    """A mesh with two storage processes whose pictures all wait for a person, and the people around it."""

    mesh: LocalMesh
    origins: Sequence[str]
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    caller_key: str = ""
    tenant: str = ""

    def stub(self, kind: Any, service: str) -> Any:
        return kind(self.channels[service])

    @property
    def reviews(self) -> Any:
        return self.stub(review_service_pb2_grpc.ReviewServiceStub, "moderation")

    @property
    def staff(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.mesh.api_key}"),)

    @property
    def caller(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.caller_key}"),)

    def signed(self, asset_id: str) -> list[str]:
        """An address of each rendition at each origin, signed with the mesh's own key."""
        secret = (self.mesh.home / "signing.key").read_text(encoding="utf-8").strip()
        ring, expires = KeyRing.parse(f"local:{secret}"), int(time.time()) + 600
        return [
            origin + sign(ring, f"/a/{asset_id}", query, expires) for origin in self.origins for query in RENDITIONS
        ]

    async def until_stored(self, job_id: str) -> str:
        """The id that the job's picture has or will have, as soon as it is ordered."""
        query = f"SELECT attempt_id FROM attempts WHERE job_id = '{job_id}'"
        async with asyncio.timeout(60):
            while not (rows := await asyncio.to_thread(self.mesh.rows, "router", query)):
                await asyncio.sleep(0.01)
        return derived_id("ast", rows[0][0], 0)

    async def waiting(self, asset_id: str) -> review_pb2.Review:
        """The picture's review, claimed, as soon as there is one."""
        async with asyncio.timeout(60):
            while True:
                found = (await self.reviews.ListReviews(pb.ListReviewsRequest(), metadata=self.staff)).reviews
                mine = [review for review in found if review.asset_id == asset_id]
                if mine:
                    request = pb.ClaimReviewRequest(review_id=mine[0].review_id)
                    return (await self.reviews.ClaimReview(request, metadata=self.staff)).review
                await asyncio.sleep(0.05)

    async def decide(self, review: review_pb2.Review, decision: verdict_pb2.Decision.ValueType) -> None:
        reason = verdict_pb2.CATEGORY_GORE if decision == BLOCK else verdict_pb2.CATEGORY_UNSPECIFIED
        request = pb.DecideReviewRequest(
            review_id=review.review_id, decision=decision, reason=reason, etag=review.etag, note="seen"
        )
        await self.reviews.DecideReview(request, metadata=self.staff)

    async def ended(self, job_id: str) -> job_pb2.Job:
        async with self.mesh.client() as client:
            async with asyncio.timeout(90):
                async for _ in client.watch(job_id):
                    pass
            return await client.get(job_id)


@dataclass
class Hammer:
    """Asks for a picture again and again, in every way that callers have, and counts the answers."""

    stage: Stage
    asset_id: str
    answers: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Counter[str]]:
        async with aiohttp.ClientSession() as session:
            work = [self._fetch(session, url) for url in self.stage.signed(self.asset_id)]
            tasks = [asyncio.create_task(one) for one in (*work, self._read())]
            try:
                yield self.answers
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    async def more(self, count: int = 40) -> None:
        """Goes on until there are so many more answers."""
        wanted = self.answers.total() + count
        while self.answers.total() < wanted:
            await asyncio.sleep(0.01)

    async def _fetch(self, session: aiohttp.ClientSession, url: str) -> None:
        while True:
            async with session.get(url) as answer:
                self.answers[str(answer.status)] += 1
                await answer.read()

    async def _read(self) -> None:
        stub = self.stage.stub(storage_service_pb2_grpc.StorageServiceStub, "storage")
        request = storage_service_pb2.ReadAssetRequest(asset_id=self.asset_id)
        while True:
            try:
                async for _ in stub.ReadAsset(request, metadata=self.stage.caller):
                    self.answers["bytes"] += 1
            except grpc.aio.AioRpcError as error:
                self.answers[error.code().name] += 1


@pytest.fixture(scope="module")
async def stage(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("people")
    parts = await production(postgres)
    with Reservations() as reservations:
        second = choose_ports(FREE, reservations).storage_http
        overrides = json.loads(parts.environment["IMAGEMESH_TEST_OVERRIDES"])
        overrides["storage-2"] = {**overrides["storage"], "IMAGEMESH_HTTP_PORT": str(second)}
        async with stubs(["stub"], "small", latency_ms=300) as running:
            environment = {
                **parts.environment,
                KEY_ENV: KEY,
                "IMAGEMESH_TEST_OVERRIDES": json.dumps(overrides),
                "IMAGEMESH_TEST_STORAGES": "2",
                "IMAGEMESH_CATALOG": str(write_catalog(folder / "catalog.yaml", running)),
            }
            async with local_mesh(folder / "home", environment, parts.truth) as mesh:
                stage = Stage(mesh, (mesh.endpoints["storage_http"], f"http://127.0.0.1:{second}"))
                await mesh.ready("storage-2")
                for name in ("moderation", "storage", "router"):
                    stage.channels[name] = grpc.aio.insecure_channel(mesh.endpoints[name])
                await prepare(stage)
                yield stage
                for channel in stage.channels.values():
                    await channel.close()


async def prepare(stage: Stage) -> None:
    """A key that is a caller's and nothing else, and a policy under which every picture waits for a person."""
    keys = stage.stub(api_key_service_pb2_grpc.ApiKeyServiceStub, "router")
    listed = await keys.ListApiKeys(api_key_service_pb2.ListApiKeysRequest(), metadata=stage.staff)
    stage.tenant = listed.api_keys[0].tenant
    create = api_key_service_pb2.CreateApiKeyRequest(tenant=stage.tenant, roles=[access_pb2.ROLE_CALLER])
    stage.caller_key = (await keys.CreateApiKey(create, metadata=stage.staff)).secret
    moderation = stage.stub(moderation_service_pb2_grpc.ModerationServiceStub, "moderation")
    policy = (await moderation.GetPolicy(moderation_pb2.GetPolicyRequest(), metadata=stage.staff)).policy
    for limits in policy.thresholds:
        if limits.category == verdict_pb2.CATEGORY_GORE:
            limits.unevaluated = REVIEW
    set_policy = moderation_pb2.SetPolicyRequest(policy=policy, etag=policy.etag)
    stored = (await moderation.SetPolicy(set_policy, metadata=stage.staff)).policy
    live = moderation_pb2.SetPolicyStateRequest(
        policy_id=stored.policy_id, version=stored.version, state=policy_pb2.POLICY_STATE_LIVE, etag=stored.etag
    )
    await moderation.SetPolicyState(live, metadata=stage.staff)


async def test_a_blocked_picture_is_never_servable(stage: Stage) -> None:
    async with stage.mesh.client() as client:
        job = await client.create("a red fox", DRAW)
    asset_id = await stage.until_stored(job.job_id)
    hammer = Hammer(stage, asset_id)
    async with hammer.at_work() as answers:
        await hammer.more()
        review = await stage.waiting(asset_id)
        async with stage.mesh.client() as client:
            assert (await client.get(job.job_id)).waiting_for == job_pb2.WAITING_FOR_REVIEW
        await hammer.more()
        await stage.decide(review, BLOCK)
        ended = await stage.ended(job.job_id)
        await hammer.more()
    assert set(answers) <= {"404", "NOT_FOUND", "FAILED_PRECONDITION"}, answers
    assert {"404", "FAILED_PRECONDITION"} <= set(answers)
    assert (ended.state, ended.blocked_by) == (job_pb2.JOB_STATE_BLOCKED, job_pb2.BLOCKED_BY_IMAGE)
    assert ended.images[0].asset_id == asset_id
    states = stage.mesh.rows("storage", f"SELECT state FROM assets WHERE asset_id = '{asset_id}'")
    assert states == [("BLOCKED",)]


async def published(stage: Stage, prompt: str) -> str:
    """The asset of a job that a person let through."""
    async with stage.mesh.client() as client:
        job = await client.create(prompt, DRAW)
    asset_id = await stage.until_stored(job.job_id)
    await stage.decide(await stage.waiting(asset_id), ALLOW)
    assert (await stage.ended(job.job_id)).state == job_pb2.JOB_STATE_SUCCEEDED
    return asset_id


async def test_a_picture_that_a_person_lets_through_is_published(stage: Stage) -> None:
    hammer = Hammer(stage, await published(stage, "a blue square"))
    async with hammer.at_work() as answers:
        await hammer.more()
    assert {"200", "bytes"} == set(answers)


async def test_while_moderation_is_down_jobs_wait_and_nothing_leaks(stage: Stage) -> None:
    async with stage.mesh.client() as client:
        drawn = await client.create("a green tree", DRAW)
        asset_id = await stage.until_stored(drawn.job_id)
        restarts = await stage.mesh.kill("moderation")
        hammer = Hammer(stage, asset_id)
        async with hammer.at_work() as answers:
            new = await client.create("a yellow sun", DRAW)
            async with asyncio.timeout(30):
                while (await client.get(new.job_id)).waiting_for != job_pb2.WAITING_FOR_MODERATION:
                    await asyncio.sleep(0.05)
            await hammer.more()
            await stage.mesh.ready("moderation", restarts + 1)
            await hammer.more()
            review = await stage.waiting(asset_id)
            assert set(answers) <= {"404", "NOT_FOUND", "FAILED_PRECONDITION"}, answers
        await stage.decide(review, ALLOW)
        await stage.decide(await stage.waiting(await stage.until_stored(new.job_id)), ALLOW)
    for job in (drawn, new):
        assert (await stage.ended(job.job_id)).state == job_pb2.JOB_STATE_SUCCEEDED


async def statuses(session: aiohttp.ClientSession, urls: Sequence[str]) -> set[int]:
    async def one(url: str) -> int:
        async with session.get(url) as answer:
            await answer.read()
            return answer.status

    return set(await asyncio.gather(*map(one, urls)))


@dataclass
class Intake:
    """Storage and moderation as the mesh itself calls them, for pictures that no stub draws."""

    stage: Stage

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        token = (self.stage.mesh.home / "mesh.token").read_text(encoding="utf-8").strip()
        return (("authorization", f"Bearer {token}"), ("x-imagemesh-tenant", self.stage.tenant))

    async def put(self, data: bytes) -> str:
        header = storage_service_pb2.PutAssetHeader(kind=asset_pb2.ASSET_KIND_OUTPUT)
        chunk = image_pb2.Chunk(data=data, last=True, sha256=hashlib.sha256(data).hexdigest())
        requests = [
            storage_service_pb2.PutAssetRequest(header=header),
            storage_service_pb2.PutAssetRequest(chunk=chunk),
        ]
        stub = self.stage.stub(storage_service_pb2_grpc.StorageServiceStub, "storage")
        return (await stub.PutAsset(iter(requests), metadata=self.metadata)).asset.asset_id

    async def judge(self, asset_id: str) -> verdict_pb2.Verdict:
        stub = self.stage.stub(moderation_service_pb2_grpc.ModerationServiceStub, "moderation")
        request = moderation_pb2.ModerateImageRequest(asset_id=asset_id)
        return (await stub.ModerateImage(request, metadata=self.metadata)).verdict

    async def publish(self, asset_id: str, verdict_id: str) -> None:
        stub = self.stage.stub(storage_service_pb2_grpc.StorageServiceStub, "storage")
        request = storage_service_pb2.PublishAssetRequest(asset_id=asset_id, verdict_id=verdict_id)
        await stub.PublishAsset(request, metadata=self.metadata)


async def test_a_takedown_takes_less_than_a_second_at_every_origin(stage: Stage) -> None:
    intake, picture = Intake(stage), scene(1, 512)
    asset_id = await intake.put(encode(picture))
    await intake.judge(asset_id)
    await stage.decide(await stage.waiting(asset_id), ALLOW)
    await intake.publish(asset_id, (await intake.judge(asset_id)).verdict_id)
    urls = stage.signed(asset_id)
    async with aiohttp.ClientSession() as session:
        assert await statuses(session, urls) == {200}
        began = time.monotonic()
        take = pb.TakeDownAssetRequest(asset_id=asset_id, reason=verdict_pb2.CATEGORY_GORE, note="a report")
        takedown = (await stage.reviews.TakeDownAsset(take, metadata=stage.staff)).takedown
        assert await statuses(session, urls) == {404}
        assert time.monotonic() - began < 1
        for changed in (picture, picture.resize(0.7), picture.fliphor(), picture.rot90().flipver()):
            again = await intake.put(encode(changed, ".jpg"))
            verdict = await intake.judge(again)
            assert (verdict.decision, verdict.layer) == (BLOCK, "perceptual-hash")
            with pytest.raises(grpc.aio.AioRpcError):
                await intake.publish(again, verdict.verdict_id)
        restore = pb.RestoreAssetRequest(takedown_id=takedown.takedown_id, note="a mistake")
        await stage.reviews.RestoreAsset(restore, metadata=stage.staff)
        assert await statuses(session, urls) == {200}
