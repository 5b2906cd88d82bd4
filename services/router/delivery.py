"""The steps that deal with storage: keep what a provider delivered, and let out what moderation allows.

Store first, judge second, publish last. A delivery that storage does not take is kept in memory and offered again until
the delivery grace ends: it was paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mesh.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
)
from mesh.ids import derived_id
from services.router import pictures as kept
from services.router.choices import Delivered
from services.router.jobs import ImageState
from services.router.leases import LeaseLost
from services.router.orders import Orders
from services.router.peers.storage import Provenance, Storage, StoredAsset, Upload
from services.router.pictures import Picture
from services.router.providers.base import ProviderImage
from services.router.queue_store import QueueStore
from services.router.runs import Run, withhold
from services.router.specs import picture_seed

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0


class CancelWonError(Exception):
    """A cancel came before the point of no return."""


class Hoard:
    """Counts the bytes of pictures that are in hand and not stored. `full` stops new orders, never a delivery."""

    def __init__(self, most_bytes: int = 256 * 1024 * 1024) -> None:
        self._most = most_bytes
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether no more orders may be placed for now."""
        return self.held >= self._most


@dataclass(frozen=True)
class Delivery:
    """Storage, as the pipeline uses it."""

    storage: Storage
    orders: Orders
    queue: QueueStore
    hoard: Hoard
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def store(self, run: Run) -> None:
        """Keep the delivery in hand, then call its order fulfilled."""
        delivered = run.in_hand
        if delivered is None:
            return
        size = sum(len(image.data) for image in delivered.result.images)
        self.hoard.held += size
        try:
            brought = await self._keep_all(run, delivered)
        finally:
            self.hoard.held -= size
        run.in_hand = None
        stored = {picture.index: picture for picture in brought if picture.asset is not None}
        refused = {index: kept.kept_back(index) for index in delivered.refused}
        if stored:
            await self.orders.succeeded(run, delivered, kept.dump([*brought, *refused.values()]), len(brought))
            run.pictures.update(stored)
        else:
            message = next((picture.error.message for picture in brought if picture.error), "no picture came")
            run.history.add(await self.orders.spoiled(run, delivered, message))
        withhold(run, delivered.choice.provider, delivered.choice.model, refused)

    async def publish(self, run: Run) -> None:
        """Pass the point of no return, then let out exactly what was stored there; refuse the rest.

        Raises:
            CancelWonError: nothing was let out, and nothing will be.
        """
        if not run.committed and any(picture.publishable for picture in run.pictures.values()):
            if not await self.queue.commit_images(run.lease, kept.dump(run.pictures.values())):
                raise CancelWonError
            run.committed = True
        shown = await asyncio.gather(*(self._show(run, picture) for picture in run.pictures.values()))
        run.pictures = {picture.index: picture for picture in shown}

    async def _keep_all(self, run: Run, delivered: Delivered) -> list[Picture]:
        """Every picture that came; those that are none stay PENDING, so that they are ordered again."""
        pairs = zip(delivered.indices, delivered.result.images, strict=True)
        return await asyncio.gather(*(self._keep(run, delivered, index, image) for index, image in pairs))

    async def _keep(self, run: Run, delivered: Delivered, index: int, image: ProviderImage) -> Picture:
        upload = _upload(run, delivered, index, image)
        try:
            asset = await self._until_taken(run, upload)
        except InvalidArgument as error:
            return Picture(index).ended(ImageState.PENDING, error)
        return Picture(
            index=index,
            state=ImageState.QUARANTINED,
            asset=asset,
            seed=upload.provenance.seed,
            revised_prompt=image.revised_prompt,
            attempt_id=delivered.attempt_id,
        )

    async def _until_taken(self, run: Run, upload: Upload) -> StoredAsset:
        pause = FIRST_PAUSE
        while True:
            try:
                return await self.storage.put(run.holder, upload)
            except InvalidArgument as error:
                if error.reason != "CHECKSUM_MISMATCH":
                    raise
            except Aborted as error:
                raise LeaseLost(error.message) from error
            except MeshError:
                if run.clock() + pause >= run.grace_ends:
                    raise
            await self.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _show(self, run: Run, picture: Picture) -> Picture:
        if picture.publishable:
            return await self._let_out(run, picture)
        if picture.state is ImageState.BLOCKED and picture.asset is not None and picture.verdict is not None:
            await self._refuse(run, picture)
        return picture

    async def _let_out(self, run: Run, picture: Picture) -> Picture:
        assert picture.asset is not None
        assert picture.verdict is not None
        try:
            await self.storage.publish(run.holder, picture.asset.asset_id, picture.verdict)
        except FailedPrecondition as error:
            return picture.ended(ImageState.BLOCKED, error)
        except NotFound as error:
            return picture.ended(ImageState.FAILED, error)
        except Aborted as error:
            raise LeaseLost(error.message) from error
        return picture.ended(ImageState.PUBLISHED)

    async def _refuse(self, run: Run, picture: Picture) -> None:
        assert picture.asset is not None
        assert picture.verdict is not None
        try:
            await self.storage.block(run.holder, picture.asset.asset_id, picture.verdict.verdict_id)
        except (FailedPrecondition, NotFound):
            return  # it is not servable either way
        except Aborted as error:
            raise LeaseLost(error.message) from error


def _upload(run: Run, delivered: Delivered, index: int, image: ProviderImage) -> Upload:
    candidate = next(
        c for c in run.candidates if (c.provider, c.model) == (delivered.choice.provider, delivered.choice.model)
    )
    seed = image.seed
    if seed is None and run.spec.seed is not None and candidate.capabilities.seed:
        seed = picture_seed(run.spec.seed, index)
    return Upload(
        asset_id=derived_id("ast", delivered.attempt_id, index),
        data=image.data,
        media_type=image.media_type,
        provenance=Provenance(
            job_id=run.lease.job_id,
            attempt_id=delivered.attempt_id,
            index=index,
            provider=candidate.provider,
            model=candidate.model,
            model_version=delivered.result.model_version or candidate.version,
            provider_request_id=delivered.result.provider_request_id,
            prompt_hash=run.prompt_hash,
            seed=seed,
            steps=candidate.steps or None,
            guidance=run.spec.guidance,
        ),
    )
