"""StorageService: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from imagemesh.storage.v1 import asset_pb2, storage_service_pb2_grpc
from imagemesh.storage.v1 import storage_service_pb2 as pb

from mesh import telemetry
from mesh.auth import REVIEWER, Principal, principal
from mesh.errors import MeshError, NotFound, invalid, unimplemented
from mesh.paging import decode_token, encode_token, page_size
from mesh.status import to_rpc_status
from mesh.validation import check, refuse
from services.storage import assets, wire
from services.storage.archive import Archive
from services.storage.assets import Asset, Content, Piece
from services.storage.rendering import Renditions
from services.storage.renditions import violations
from services.storage.signing import BadSignature, Signer, asset_of
from services.storage.store import AssetStore
from services.storage.sweeper import Sweeper

CHUNK = 1 << 20
WINDOW = 4 * CHUNK  # bytes read from the object store at once
DEFAULT_TTL_S = 3600
READS_UNPUBLISHED = frozenset({"INTERNAL", "REVIEWER"})


@dataclass(frozen=True)
class Parts:
    """What the service stands on."""

    store: AssetStore
    archive: Archive
    renditions: Renditions
    signer: Signer
    sweeper: Sweeper


class StorageService(storage_service_pb2_grpc.StorageServiceServicer):
    """The rpcs, as the contract tells them."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._archive = parts.archive
        self._renditions = parts.renditions
        self._signer = parts.signer
        self._sweeper = parts.sweeper

    async def PutAsset(self, request_iterator: AsyncIterator[pb.PutAssetRequest], context: Any) -> pb.PutAssetResponse:
        """Header, then chunks; a small image within the header."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("load") != "header":
            raise invalid("header", "must come first")
        _check_header(first.header, principal())
        put = wire.put_of(first.header, _required_tenant())
        asset = await self._archive.put(put, _pieces(first.header, request_iterator))
        return pb.PutAssetResponse(asset=wire.to_asset(asset))

    async def CopyAsset(self, request: pb.CopyAssetRequest, context: Any) -> pb.CopyAssetResponse:
        """A new row over the same bytes."""
        check(request, wire.COPY)
        new = wire.copy_of(request, _required_tenant())
        source, copied = await self._archive.copy(request.source_asset_id, new)
        return pb.CopyAssetResponse(asset=wire.to_asset(copied), source_verdict_id=source.verdict_id)

    async def GetAsset(self, request: pb.GetAssetRequest, context: Any) -> pb.GetAssetResponse:
        """One asset."""
        check(request, wire.GET)
        return pb.GetAssetResponse(asset=wire.to_asset(await self._seen(request.asset_id)))

    async def ReadAsset(self, request: pb.ReadAssetRequest, context: Any) -> AsyncIterator[pb.ReadAssetResponse]:
        """Header, then chunks."""
        check(request, wire.READ)
        asset = await self._readable(request.asset_id)
        spec = wire.spec_of(request.rendition)
        content = asset.content
        if not spec.empty:
            content = await self._renditions.get(asset, spec)
            await self._readable(request.asset_id)  # making it takes time; a takedown may have come
        yield pb.ReadAssetResponse(header=wire.to_read_header(asset, spec, content))
        async for message in self._chunks(content, request.offset, request.limit):
            yield message

    async def ListAssets(self, request: pb.ListAssetsRequest, context: Any) -> pb.ListAssetsResponse:
        """One page."""
        check(request, wire.LIST)
        wanted = wire.filter_of(request, principal().tenant)
        size = page_size(request.page_size)
        scope = f"assets:{wanted}"
        found = await self._store.page(wanted, _position(request.page_token, scope), size + 1)
        page, more = found[:size], found[size:]
        token = encode_token((page[-1].create_us, page[-1].asset_id), scope) if more else ""
        return pb.ListAssetsResponse(assets=map(wire.to_asset, page), next_page_token=token)

    async def PublishAsset(self, request: pb.PublishAssetRequest, context: Any) -> pb.PublishAssetResponse:
        """QUARANTINED to PUBLISHED."""
        check(request, wire.PUBLISH)
        tenant = await self._owner(request.asset_id)
        published = await self._archive.publish(tenant, wire.decision_of(request), _announce())
        return pb.PublishAssetResponse(asset=wire.to_asset(published))

    async def BlockAsset(self, request: pb.BlockAssetRequest, context: Any) -> pb.BlockAssetResponse:
        """QUARANTINED to BLOCKED."""
        check(request, wire.PUBLISH)
        blocked = await self._archive.block(principal().tenant, wire.decision_of(request), _announce())
        return pb.BlockAssetResponse(asset=wire.to_asset(blocked))

    async def QuarantineAsset(self, request: pb.QuarantineAssetRequest, context: Any) -> pb.QuarantineAssetResponse:
        """PUBLISHED to TAKEN_DOWN, one asset."""
        check(request, wire.WITHDRAW)
        asset = await self._mine(request.asset_id)
        withdrawn = await self._archive.withdraw(asset, request.reason, _announce())
        return pb.QuarantineAssetResponse(asset=wire.to_asset(withdrawn))

    async def DeleteAsset(self, request: pb.DeleteAssetRequest, context: Any) -> pb.DeleteAssetResponse:
        """Any state to PURGED."""
        check(request, wire.GET)
        asset = await self._mine(request.asset_id)
        purged = await self._archive.delete(asset, _announce(), self._sweeper.wake)
        return pb.DeleteAssetResponse(asset=wire.to_asset(purged))

    async def CreateRendition(self, request: pb.CreateRenditionRequest, context: Any) -> pb.CreateRenditionResponse:
        """For later."""
        raise unimplemented("CreateRendition", "sign an address for the rendition; it is made when first fetched")

    async def SignUrls(self, request: pb.SignUrlsRequest, context: Any) -> pb.SignUrlsResponse:
        """Addresses of published assets."""
        check(request, wire.SIGN)
        for index, spec in enumerate(request.specs):
            check(spec, wire.URL_SPEC, f"specs[{index}].")
            refuse(violations(wire.spec_of(spec.rendition), f"specs[{index}].rendition."))
        found = await self._store.get_many((spec.asset_id for spec in request.specs), principal().tenant)
        ttl = request.ttl.seconds if request.HasField("ttl") else DEFAULT_TTL_S
        results = (self._signed(spec, found, ttl, request.allow_partial) for spec in request.specs)
        return pb.SignUrlsResponse(results=results)

    async def TakeDownContent(self, request: pb.TakeDownContentRequest, context: Any) -> pb.TakeDownContentResponse:
        """Blocks a hash."""
        check(request, wire.TAKE_DOWN)
        taken = await self._store.take_down(request.sha256, request.reason, _announce())
        return pb.TakeDownContentResponse(asset_ids=taken)

    async def RestoreContent(self, request: pb.RestoreContentRequest, context: Any) -> pb.RestoreContentResponse:
        """Unblocks a hash."""
        check(request, wire.RESTORE)
        restored = await self._store.restore(request.sha256, request.asset_id, request.verdict_id, _announce())
        return pb.RestoreContentResponse(asset_ids=restored)

    async def ResolveUrl(self, request: pb.ResolveUrlRequest, context: Any) -> pb.ResolveUrlResponse:
        """The asset of a signed address."""
        check(request, wire.RESOLVE)
        try:
            asset_id = asset_of(self._signer.ring, request.url)
        except BadSignature as error:
            raise NotFound(f"no asset: {error}", reason="ASSET_NOT_FOUND") from error
        return pb.ResolveUrlResponse(asset=wire.to_asset(await self._mine(asset_id)))

    async def SetHold(self, request: pb.SetHoldRequest, context: Any) -> pb.SetHoldResponse:
        """Sets or lifts a legal hold."""
        check(request, wire.HOLD)
        asset = await self._mine(request.asset_id)
        held = await self._archive.hold(asset, request.hold, _announce())
        return pb.SetHoldResponse(asset=wire.to_asset(held))

    async def _mine(self, asset_id: str) -> Asset:
        return await self._store.get(asset_id, principal().tenant)

    async def _seen(self, asset_id: str) -> Asset:
        """Reviewers see the assets of every tenant."""
        caller = principal()
        return await self._store.get(asset_id, "" if REVIEWER in caller.roles else caller.tenant)

    async def _readable(self, asset_id: str) -> Asset:
        return assets.readable(
            await self._seen(asset_id), published_only=READS_UNPUBLISHED.isdisjoint(principal().roles)
        )

    async def _owner(self, asset_id: str) -> str:
        """The tenant whose verdicts count; only a caller that acts for none makes us look."""
        return principal().tenant or (await self._mine(asset_id)).tenant

    async def _chunks(self, content: Content, offset: int, limit: int) -> AsyncIterator[pb.ReadAssetResponse]:
        end = min(content.size_bytes, offset + limit) if limit else content.size_bytes
        if offset >= end:
            yield _chunk(offset, b"", content.sha256)
        while offset < end:
            window = await self._archive.read(content, offset, min(WINDOW, end - offset))
            for start in range(0, len(window), CHUNK):
                data = window[start : start + CHUNK]
                last = offset + start + len(data) >= end
                yield _chunk(offset + start, data, content.sha256 if last else "")
            offset += len(window)

    def _signed(self, wanted: pb.UrlSpec, found: dict[str, Asset], ttl: int, partial: bool) -> pb.SignUrlResult:
        try:
            asset = found.get(wanted.asset_id)
            if asset is None:
                raise assets.not_found(wanted.asset_id)
            assets.readable(asset, published_only=True)
        except MeshError as error:
            if not partial:
                raise
            return pb.SignUrlResult(error=to_rpc_status(error))
        url, expires = self._signer.sign(f"/a/{asset.asset_id}", wire.spec_of(wanted.rendition).query, ttl)
        expire_time = wire.to_timestamp(expires * 1_000_000)
        return pb.SignUrlResult(url=asset_pb2.SignedUrl(asset_id=asset.asset_id, url=url, expire_time=expire_time))


def _chunk(offset: int, data: bytes, sha256: str) -> pb.ReadAssetResponse:
    """Filled in place: a message given to another's constructor is copied, bytes and all."""
    message = pb.ReadAssetResponse()
    chunk = message.chunk
    chunk.offset = offset
    chunk.data = data
    chunk.last = bool(sha256)
    chunk.sha256 = sha256
    return message


def _announce() -> wire.Announce:
    return wire.announcer(telemetry.current())


def _required_tenant() -> str:
    tenant = principal().tenant
    if not tenant:
        raise invalid("x-imagemesh-tenant", "send the tenant that the call is made for as metadata")
    return tenant


def _check_header(header: pb.PutAssetHeader, caller: Principal) -> None:
    if not caller.internal:
        check(header, wire.CALLERS_PUT_HEADER, "header.")
    check(header, wire.PUT_HEADER, "header.")


async def _pieces(header: pb.PutAssetHeader, requests: AsyncIterator[pb.PutAssetRequest]) -> AsyncIterator[Piece]:
    if header.HasField("whole"):
        yield wire.piece_of(header.whole)
    async for request in requests:
        if request.WhichOneof("load") != "chunk":
            raise invalid("chunk", "every message after the first must be a chunk")
        yield wire.piece_of(request.chunk)


def _position(token: str, scope: str) -> tuple[int, str] | None:
    if not token:
        return None
    time_us, asset_id = decode_token(token, scope, (int, str))
    return int(time_us), str(asset_id)
