"""The result cache as the pipeline uses it: what makes two jobs the same, and how an old result serves a new job."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

from imagemesh.router.v1 import job_pb2

from mesh.errors import FailedPrecondition, NotFound
from mesh.ids import derived_id
from services.router import pictures as kept
from services.router.cache_store import CacheStore
from services.router.jobs import ImageState
from services.router.peers.storage import Provenance, Storage
from services.router.pictures import Picture
from services.router.runs import Run
from services.router.specs import CachePolicy, effective_cache


def cache_key(run: Run, model_version: str) -> str:
    """What a result is kept under: tenant, spec with its seed, model version and policy version."""
    spec = job_pb2.GenerationSpec.FromString(run.job.spec)
    canonical = spec.SerializeToString(deterministic=True)
    routing = job_pb2.JobOptions.FromString(run.job.options).routing.SerializeToString(deterministic=True)
    digest = hashlib.sha256()
    for part in (run.job.tenant.encode(), canonical, routing, model_version.encode(), run.policy.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class Results:
    """Looks for an earlier result and takes it over."""

    def __init__(self, cache: CacheStore, storage: Storage) -> None:
        self._cache = cache
        self._storage = storage

    async def look(self, run: Run, model_version: str) -> None:
        """Fill the run's pictures from an earlier result, where policy and store have one."""
        policy = effective_cache(run.options, seed_given=not run.job.seed_drawn)
        if not run.policy or (policy is CachePolicy.BYPASS and run.job.seed_drawn):
            return
        run.cache_key = cache_key(run, model_version)
        if policy is not CachePolicy.USE:
            return
        hit = await self._cache.lookup(run.job.tenant, run.cache_key)
        if hit is None:
            return
        found = kept.load(hit.images)
        if await self._take_over(run, found):
            run.cache_hit = True
        else:
            await self._cache.forget(run.cache_key)

    async def _take_over(self, run: Run, found: dict[int, Picture]) -> bool:
        """Rows of this job over the old bytes; False when any of them may not be shown any more."""
        wanted = range(run.spec.count)
        if any(index not in found or found[index].state is not ImageState.PUBLISHED for index in wanted):
            return False
        try:
            copies = await asyncio.gather(*(self._copy(run, found[index]) for index in wanted))
        except (FailedPrecondition, NotFound):
            return False
        run.pictures = {picture.index: picture for picture in copies}
        return True

    async def _copy(self, run: Run, picture: Picture) -> Picture:
        assert picture.asset is not None, "published pictures have assets"
        asset_id = derived_id("ast", run.lease.job_id, "cache", picture.index)
        made = Provenance(run.lease.job_id, index=picture.index)
        asset = await self._storage.copy(run.holder, picture.asset.asset_id, asset_id, made)
        return replace(picture, state=ImageState.QUARANTINED, asset=asset)
