"""Signed addresses of published pictures: minted by storage whenever a job is read, never stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc.aio
from imagemesh.router.v1 import job_pb2
from imagemesh.storage.v1 import asset_pb2, storage_service_pb2, storage_service_pb2_grpc

from mesh.channel import as_tenant
from mesh.errors import MeshError
from mesh.status import peer_errors
from mesh.telemetry import logger

MOST_AT_ONCE = 1000
TIMEOUT_S = 2.0

log = logger(__name__)


class Urls(Protocol):
    """Who can sign."""

    async def sign(self, tenant: str, asset_ids: Sequence[str]) -> Mapping[str, asset_pb2.SignedUrl]:
        """Addresses of the originals by asset id; what cannot be signed now is left out. Never raises."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """Addresses that somebody waits for."""

    asset_ids: Sequence[str]
    signed: asyncio.Future[Mapping[str, asset_pb2.SignedUrl]]


class StorageUrls:
    """`Urls` of the storage service. What is asked for while a call is under way goes out together in the next one."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = storage_service_pb2_grpc.StorageServiceStub(channel)
        self._waiting: dict[str, list[_Wish]] = {}  # by tenant; there while somebody calls for it
        self._calling: set[asyncio.Task[None]] = set()

    async def sign(self, tenant: str, asset_ids: Sequence[str]) -> Mapping[str, asset_pb2.SignedUrl]:
        """See `Urls.sign`."""
        wish = _Wish(asset_ids, asyncio.get_running_loop().create_future())
        if tenant in self._waiting:
            self._waiting[tenant].append(wish)
        else:
            self._waiting[tenant] = [wish]
            calling = asyncio.create_task(self._call(tenant), name="sign-urls")
            self._calling.add(calling)
            calling.add_done_callback(self._calling.discard)
        return await wish.signed

    async def _call(self, tenant: str) -> None:
        wishes: list[_Wish] = []
        try:
            while wishes := self._waiting[tenant]:
                self._waiting[tenant] = []
                _tell(wishes, await self._sign_all(tenant, [each for wish in wishes for each in wish.asset_ids]))
        finally:  # also when something broke that nobody foresaw: those who wait must not wait for ever
            _tell([*wishes, *self._waiting.pop(tenant)], {})

    async def _sign_all(self, tenant: str, asset_ids: Sequence[str]) -> Mapping[str, asset_pb2.SignedUrl]:
        signed: dict[str, asset_pb2.SignedUrl] = {}
        for start in range(0, len(asset_ids), MOST_AT_ONCE):
            signed.update(await self._sign_some(tenant, asset_ids[start : start + MOST_AT_ONCE]))
        return signed

    async def _sign_some(self, tenant: str, asset_ids: Sequence[str]) -> Mapping[str, asset_pb2.SignedUrl]:
        specs = [storage_service_pb2.UrlSpec(asset_id=asset_id) for asset_id in asset_ids]
        request = storage_service_pb2.SignUrlsRequest(specs=specs, allow_partial=True)
        try:
            with peer_errors("storage"):
                answer = await self._stub.SignUrls(request, metadata=as_tenant(tenant), timeout=TIMEOUT_S)
        except MeshError as error:
            log.info("no addresses signed", reason=error.reason)
            return {}
        results = zip(asset_ids, answer.results, strict=False)
        return {asset_id: result.url for asset_id, result in results if result.HasField("url")}


def _tell(wishes: Sequence[_Wish], signed: Mapping[str, asset_pb2.SignedUrl]) -> None:
    for wish in wishes:
        if not wish.signed.done():  # who asked may have gone
            wish.signed.set_result(signed)


async def add_urls(urls: Urls, tenant: str, jobs: Sequence[job_pb2.Job]) -> None:
    """Gives every published picture of these jobs its address, with one call for all."""
    images = [
        image for job in jobs for image in job.images if image.state == job_pb2.IMAGE_STATE_PUBLISHED and image.asset_id
    ]
    if not images:
        return
    signed = await urls.sign(tenant, [image.asset_id for image in images])
    for image in images:
        address = signed.get(image.asset_id)
        if address is not None:
            image.url = address.url
            image.url_expire_time.CopyFrom(address.expire_time)
