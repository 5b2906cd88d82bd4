"""A worker without processes: real stores, real pipeline, a scripted provider, moderation and storage in memory.

Time stands still unless somebody sleeps on it; then it jumps.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration
from imagemesh.moderation.v1 import verdict_pb2
from imagemesh.router.v1 import job_pb2

from mesh.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from mesh.ids import derived_id, new_id
from services.router.breaker import BreakerConfig, BreakerKey, Breakers
from services.router.cache_store import CacheStore
from services.router.catalog import Catalog
from services.router.delivery import Delivery, Hoard
from services.router.fallback import Fallback
from services.router.inputs import Inputs, UrlFetcher
from services.router.job_store import JobStore
from services.router.judging import Judge
from services.router.leases import ClaimedJob, ClaimRequest, Ended, Parking
from services.router.orders import Ordering, Orders
from services.router.peers.moderation import Decision, Subject, Verdict, read_verdict
from services.router.peers.storage import Holder, Provenance, StoredAsset, Upload
from services.router.pipeline import Outcome, Parts, Pipeline, Released, StepHook, no_hook
from services.router.planning import Planner
from services.router.providers.base import (
    Capabilities,
    Listener,
    Provider,
    ProviderCall,
    ProviderImage,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.records import Identity, JobRecord, NewJob
from services.router.results import Results
from services.router.runs import RunSource
from services.router.specs import Operation
from tests.router import catalogs
from tests.router.fakes.pictures import picture
from tests.router.stores import Stores

PICTURE = picture("tiny")


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class FakeModeration:
    """Allows everything, unless told otherwise. `down` makes it unreachable."""

    def __init__(self) -> None:
        self.down = False
        self.texts = Decision.ALLOW
        self.images: dict[int, Decision] = {}
        self.image_decision = Decision.ALLOW
        self.judged: collections.Counter[str] = collections.Counter()
        self.policy_version = 1
        self.storage: FakeStorage | None = None

    async def judge_texts(self, subject: Subject, texts: Mapping[str, str]) -> Verdict:
        self._answer()
        self.judged["texts"] += 1
        return self._verdict(self.texts, derived_id("ver", subject.job_id, "text", self.texts), "")

    async def judge_image(self, subject: Subject, asset_id: str, data: bytes = b"") -> Verdict:
        self._answer()
        self.judged[asset_id] += 1
        assert self.storage is not None
        row = self.storage.rows[asset_id]
        decision = self.images.get(row.index, self.image_decision)
        return self._verdict(decision, derived_id("ver", subject.job_id, asset_id, decision), row.sha256)

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("moderation does not answer", metadata={"peer": "moderation"})

    def _verdict(self, decision: Decision, verdict_id: str, sha256: str) -> Verdict:
        return read_verdict(
            verdict_pb2.Verdict(
                verdict_id=verdict_id,
                decision=verdict_pb2.Decision.Value(f"DECISION_{decision}"),
                policy_id="default",
                policy_version=self.policy_version,
                sha256=sha256,
            )
        )


@dataclass
class Row:
    tenant: str
    state: str
    data: bytes
    sha256: str
    index: int = 0
    kind: str = "OUTPUT"
    epoch: int = 0
    verdict_id: str = ""
    job_id: str = ""


class FakeStorage:
    """Keeps bytes in memory by the contract's rules. `down` makes it unreachable; `outages` fails that many calls."""

    def __init__(self) -> None:
        self.down = False
        self.outages = 0
        self.rows: dict[str, Row] = {}
        self.blocked: set[str] = set()
        self.puts: collections.Counter[str] = collections.Counter()

    async def put(self, holder: Holder, upload: Upload) -> StoredAsset:
        self._answer()
        self.puts[upload.asset_id] += 1
        if b"broken" in upload.data:
            raise InvalidArgument("the image cannot be read", reason="IMAGE_UNREADABLE")
        digest = hashlib.sha256(upload.data).hexdigest()
        made = upload.provenance
        row = Row(holder.tenant, "QUARANTINED", upload.data, digest, made.index, upload.kind, job_id=made.job_id)
        row = self.rows.setdefault(upload.asset_id, row)
        self._fence(row, holder)
        return _asset(upload.asset_id, row)

    async def copy(self, holder: Holder, source_asset_id: str, asset_id: str, job: Provenance) -> StoredAsset:
        self._answer()
        source = self.rows.get(source_asset_id)
        if source is None or source.state != "PUBLISHED" or source.sha256 in self.blocked:
            raise FailedPrecondition("not published", reason="NOT_PUBLISHED")
        row = replace(source, state="QUARANTINED", epoch=holder.epoch, job_id=job.job_id, index=job.index)
        return _asset(asset_id, self.rows.setdefault(asset_id, row))

    async def publish(self, holder: Holder, asset_id: str, verdict: Verdict) -> StoredAsset:
        row, verdict_id = self._row(holder, asset_id), verdict.verdict_id
        if row.sha256 in self.blocked:
            raise FailedPrecondition("its hash is blocked", reason="CONTENT_BLOCKED")
        if row.state == "PUBLISHED" and row.verdict_id != verdict_id:
            raise FailedPrecondition("published by another verdict", reason="WRONG_STATE")
        row.state, row.verdict_id = "PUBLISHED", verdict_id
        return _asset(asset_id, row)

    async def block(self, holder: Holder, asset_id: str, verdict_id: str) -> None:
        row = self._row(holder, asset_id)
        row.state, row.verdict_id = "BLOCKED", verdict_id

    async def read(self, holder: Holder, asset_id: str) -> tuple[bytes, str]:
        return self._row(holder, asset_id).data, "image/png"

    async def answers(self) -> bool:
        return not self.down

    def published(self) -> set[str]:
        return {asset_id for asset_id, row in self.rows.items() if row.state == "PUBLISHED"}

    def _row(self, holder: Holder, asset_id: str) -> Row:
        self._answer()
        if asset_id not in self.rows:
            raise NotFound("no such asset", reason="ASSET_NOT_FOUND")
        self._fence(self.rows[asset_id], holder)
        return self.rows[asset_id]

    def _fence(self, row: Row, holder: Holder) -> None:
        if holder.epoch < row.epoch:
            raise Aborted("a later lease owns the asset", reason="STALE_EPOCH")
        row.epoch = holder.epoch

    def _answer(self) -> None:
        if self.down or self.outages > 0:
            self.outages -= 1
            raise Unavailable("storage does not answer", metadata={"peer": "storage"})


def _asset(asset_id: str, row: Row) -> StoredAsset:
    return StoredAsset(asset_id, row.state, row.sha256, 16, 16, "png", len(row.data))


Script = ErrorKind | ProviderError | str | Callable[[ProviderCall], Awaitable[ProviderResult]]


class ScriptedProvider(Provider):
    """Does what its script says, call by call, then draws. `"partial"` draws one less, `"broken"` draws no picture,
    `"spotty"` none but the first, `"kept_back"` all but the first, which its filter keeps; `"hang"` never ends."""

    def __init__(self, name: str, *, replay_safe: bool = False, max_count: int = 4) -> None:
        self.name = name
        self.script: list[Script] = []
        self.calls: list[ProviderCall] = []
        self.asked = asyncio.Condition()
        self._can = Capabilities(
            frozenset({"TEXT_TO_IMAGE"}), max_count=max_count, seed=True, replay_safe=replay_safe, progress=True
        )
        self._serial = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._can

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        call.before_sending()
        async with self.asked:
            self.calls.append(call)
            self.asked.notify_all()
        turn = self.script.pop(0) if self.script else "draw"
        if isinstance(turn, ErrorKind):
            raise ProviderError(turn, f"scripted {turn}")
        if isinstance(turn, ProviderError):
            raise turn
        if callable(turn):
            return await turn(call)
        if turn == "hang":
            await asyncio.Event().wait()
        listener.progress(1, 2)
        return self._draw(call, turn)

    async def until_asked(self, times: int = 1) -> None:
        async with self.asked:
            await self.asked.wait_for(lambda: len(self.calls) >= times)

    def _draw(self, call: ProviderCall, turn: str) -> ProviderResult:
        images = []
        for number in range(call.count - (turn == "partial")):
            self._serial += 1
            broken = turn == "broken" or (turn == "spotty" and number)
            data = b"\x89PNG broken" if broken else PICTURE.png(hash((self.name, self._serial)) % 2**60)
            seed = None if call.seed is None else (call.seed + number) % 2**32
            images.append(ProviderImage(data, "image/png", seed))
        first = turn == "kept_back"
        places = tuple(range(1, call.count)) if first else None
        return ProviderResult(tuple(images[first:]), f"{self.name}-{self._serial}", "v1", places=places)


@dataclass
class Grip:
    left: float = 100.0
    stop: bool = False
    progress: list[tuple[int, int]] = field(default_factory=list)

    def lease_left(self) -> float:
        return self.left

    def draining(self) -> bool:
        return self.stop

    def progressed(self, step: int, steps: int) -> None:
        self.progress.append((step, steps))


def two_providers(folder: Path, count_per_call: int = 4) -> Catalog:
    """A catalog with a model `m` on the providers `one` and `two`, 0.02 and 0.03 USD a picture."""
    able = {
        "operations": [operation.value for operation in Operation],
        "count_per_call": count_per_call,
        "seed": True,
        "strength": True,
        "max_images": 4,
        "controls": ["canny", "depth"],
        "loras": ["ink"],
        "upscale_factors": [4, 2],
        "sizes": [],
        "default_size": "64x64",
    }
    routes = [catalogs.route("one", "0.02", capabilities=able), catalogs.route("two", "0.03", capabilities=able)]
    providers = [catalogs.provider("one"), catalogs.provider("two")]
    return catalogs.load(folder, catalogs.document(providers, [catalogs.model("m", *routes)]))


class Rig:
    """Everything a job's run needs."""

    def __init__(self, stores: Stores, folder: Path, on_step: StepHook = no_hook, count_per_call: int = 4) -> None:
        self.stores = stores
        self.clock = Clock()
        self.moderation = FakeModeration()
        self.storage = FakeStorage()
        self.moderation.storage = self.storage
        self.one = ScriptedProvider("one")
        self.two = ScriptedProvider("two")
        self.providers: dict[str, Provider] = {"one": self.one, "two": self.two}
        self.catalog = two_providers(folder, count_per_call)
        self.breakers = Breakers(BreakerConfig(), self.clock)
        self.hoard = Hoard()
        self.grip = Grip()
        self.runs = RunSource(self.clock)
        self.pipeline = Pipeline(self._parts(), on_step)

    def _parts(self) -> Parts:
        judge = Judge(self.moderation)
        queue = self.stores.queue
        orders = Orders(self.stores.attempts, self.providers, self.storage, Ordering(1.0, sleep=self.clock.sleep))
        self.planner = Planner(self.catalog)

        async def all_models(_key_id: str) -> frozenset[str]:
            return frozenset()

        return Parts(
            queue=queue,
            planner=lambda: self.planner,
            inputs=Inputs(JobStore(self.stores.database), queue, self.storage, judge, UrlFetcher(allow_private=True)),
            judge=judge,
            results=Results(CacheStore(self.stores.database), self.storage),
            orders=orders,
            fallback=Fallback(
                lambda choice: self.breakers.wait(BreakerKey(choice.provider, choice.model)),
                self.clock,
                self.clock.sleep,
            ),
            delivery=Delivery(self.storage, orders, queue, self.hoard, self.clock.sleep),
            allowed_models=all_models,
        )

    def use(self, catalog: Catalog) -> None:
        """Plans by this catalog from now on."""
        self.catalog = catalog
        self.planner = replace(self.planner, catalog=catalog)

    async def submit(self, *, count: int = 1, seed_drawn: bool = True, deadline_s: float = 600, **fields: Any) -> str:
        """Store a job as the API would; `options` is a JobOptions message."""
        options = fields.pop("options", job_pb2.JobOptions(deadline=Duration(seconds=int(deadline_s))))
        inputs, user = fields.pop("inputs", {}), fields.pop("user", "")
        spec = job_pb2.GenerationSpec(
            **{"prompt": "a red circle", "model": "m", "count": count, "seed": 7, "operation": 1, **fields}
        )
        new = NewJob(
            job_id=new_id("job"),
            identity=Identity("acme", user=user),
            lane="INTERACTIVE",
            model="m",
            spec=spec.SerializeToString(),
            options=options.SerializeToString(),
            seed_drawn=seed_drawn,
            deadline_s=deadline_s,
            quoted_micros=30_000 * count,
            event=b"",
            inputs=inputs,
        )
        return (await self.stores.jobs.create(new)).job_id

    async def claim(self, owner: str = "w1", lease_s: float = 30.0) -> ClaimedJob:
        (job,) = await self.stores.queue.claim(ClaimRequest(owner, "INTERACTIVE", 1, lease_s))
        return job

    async def walk(self, job: ClaimedJob) -> Outcome:
        """One run as the worker makes it, parking included."""
        run = self.runs.open(job, self.grip)
        outcome = await self.pipeline.walk(run)
        if isinstance(outcome, Parking):
            await self.stores.queue.park(job.lease, outcome)
        elif isinstance(outcome, Released):
            await self.stores.queue.release(job.lease)
        return outcome

    async def draw(self, **fields: Any) -> job_pb2.Job:
        """Submit, run to the end; the job's pictures."""
        job_id = await self.submit(**fields)
        assert isinstance(await self.walk(await self.claim()), Ended)
        return await self.result(job_id)

    async def result(self, job_id: str) -> job_pb2.Job:
        return job_pb2.Job.FromString((await self.record(job_id)).images)

    async def record(self, job_id: str) -> JobRecord:
        return await self.stores.record(job_id)
