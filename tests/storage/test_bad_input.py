"""Every way to hand in something wrong has its own message and code."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from imagemesh.storage.v1 import asset_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb
from imagemesh.type.v1 import image_pb2

from mesh.errors import Code
from services.storage.config import Limits
from services.storage.objects.disk import DiskStore
from tests.storage.running import Running, internal, key, object_files, picture, put_stream, refused, running, sha256

INPUT = pb.PutAssetHeader(kind=asset_pb2.ASSET_KIND_INPUT)
OUTPUT = pb.PutAssetHeader(kind=asset_pb2.ASSET_KIND_OUTPUT)
PICTURE = picture(1)
Messages = list[pb.PutAssetRequest]


def bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A well-formed PNG header that claims more pixels than anybody should decode."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def whole(data: bytes, header: pb.PutAssetHeader = OUTPUT) -> Messages:
    return list(put_stream(data, header, 1000))


def changed(number: int, **fields: object) -> Messages:
    """A good upload in chunks of 1000 bytes, one of which is different."""
    messages = whole(PICTURE)
    for name, value in fields.items():
        setattr(messages[number].chunk, name, value)
    return messages


LAST = len(whole(PICTURE)) - 1

UPLOADS = {
    "no message at all": ([], "INVALID_FIELD", "header"),
    "no header": (whole(PICTURE)[1:], "INVALID_FIELD", "header"),
    "two headers": ([whole(PICTURE)[0], *whole(PICTURE)], "INVALID_FIELD", "chunk"),
    "no kind": (whole(PICTURE, pb.PutAssetHeader()), "INVALID_FIELD", "header.kind"),
    "strange id": (whole(PICTURE, pb.PutAssetHeader(asset_id="../x", kind=2)), "INVALID_FIELD", "header.asset_id"),
    "strange media type": (whole(PICTURE, pb.PutAssetHeader(kind=2, media_type="a/b")), "INVALID_FIELD", "media_type"),
    "wrong media type": (
        whole(PICTURE, pb.PutAssetHeader(kind=2, media_type="image/jpeg")),
        "INVALID_FIELD",
        "image/png",
    ),
    "negative epoch": (whole(PICTURE, pb.PutAssetHeader(kind=2, epoch=-1)), "INVALID_FIELD", "header.epoch"),
    "no chunks": (whole(PICTURE)[:1], "CHECKSUM_MISMATCH", "before its last chunk"),
    "no last chunk": (whole(PICTURE)[:-1], "CHECKSUM_MISMATCH", "before its last chunk"),
    "a gap": (changed(2, offset=1001), "CHECKSUM_MISMATCH", "offset"),
    "a repeat": ([*whole(PICTURE)[:2], *whole(PICTURE)[1:]], "CHECKSUM_MISMATCH", "offset"),
    "another image": (changed(1, index=1), "CHECKSUM_MISMATCH", "index"),
    "an empty chunk": (changed(1, data=b""), "CHECKSUM_MISMATCH", "empty"),
    "a chunk over 1 MiB": (list(put_stream(bytes((1 << 20) + 1), OUTPUT, 2 << 20)), "CHECKSUM_MISMATCH", "1 MiB"),
    "no checksum": (changed(LAST, sha256=""), "CHECKSUM_MISMATCH", "sha256"),
    "wrong checksum": (changed(LAST, sha256=sha256(b"other")), "CHECKSUM_MISMATCH", "sha256"),
    "flipped bytes": (changed(1, data=bytes(1000)), "CHECKSUM_MISMATCH", "sha256"),
    "more after the last": (
        [*whole(PICTURE), pb.PutAssetRequest(chunk=image_pb2.Chunk(offset=len(PICTURE), data=b"x"))],
        "CHECKSUM_MISMATCH",
        "after the last",
    ),
    "empty file": (
        [*whole(PICTURE)[:1], pb.PutAssetRequest(chunk=image_pb2.Chunk(last=True, sha256=sha256(b"")))],
        "IMAGE_UNREADABLE",
        "cannot be read",
    ),
    "not an image": (whole(b"not an image" * 100), "IMAGE_UNREADABLE", "not a PNG"),
    "a cut header": (whole(PICTURE[:20]), "IMAGE_UNREADABLE", "cannot be read"),
    "a truncated input": (whole(PICTURE[: len(PICTURE) // 2], INPUT), "IMAGE_UNREADABLE", "truncated"),
    "a pixel bomb": (whole(bomb()), "IMAGE_TOO_LARGE", "30000"),
    "a pixel bomb as input": (whole(bomb(), INPUT), "IMAGE_TOO_LARGE", "30000"),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_a_wrong_upload_is_refused_and_leaves_nothing(local: Running, tmp_path: Path, name: str) -> None:
    messages, reason, part = UPLOADS[name]
    error = await refused(local.stub.PutAsset(iter(messages), metadata=internal()))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, reason), error.message
    assert part in error.message
    assert object_files(tmp_path / "objects") == []
    assert local.storage.archive._memory.used == 0


@pytest.mark.parametrize(
    ("header", "field"),
    [
        (OUTPUT, "header.kind"),
        (pb.PutAssetHeader(kind=1, asset_id="ast_mine"), "header.asset_id"),
        (pb.PutAssetHeader(kind=1, epoch=1), "header.epoch"),
        (pb.PutAssetHeader(kind=1, provenance=asset_pb2.Provenance(model="x")), "header.provenance"),
    ],
)
async def test_callers_may_only_put_plain_inputs(local: Running, header: pb.PutAssetHeader, field: str) -> None:
    error = await refused(local.stub.PutAsset(put_stream(PICTURE, header), metadata=key("acme")))
    assert [v.field for v in error.violations] == [field]
    asset = (await local.stub.PutAsset(put_stream(PICTURE, INPUT), metadata=key("acme"))).asset
    assert (asset.tenant, asset.kind) == ("acme", asset_pb2.ASSET_KIND_INPUT)


async def test_an_internal_put_needs_a_tenant(local: Running) -> None:
    error = await refused(local.stub.PutAsset(put_stream(PICTURE, OUTPUT), metadata=internal("")))
    assert [v.field for v in error.violations] == ["x-imagemesh-tenant"]


async def test_an_original_has_a_largest_size(tmp_path: Path) -> None:
    limits = replace(Limits(), original=len(PICTURE) - 1)
    async with running(f"sqlite:///{tmp_path / 'db'}", DiskStore(tmp_path / "objects"), limits) as service:
        error = await refused(service.stub.PutAsset(put_stream(PICTURE, OUTPUT), metadata=internal()))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "IMAGE_TOO_LARGE")


async def test_uploads_together_have_a_bound_on_memory(tmp_path: Path) -> None:
    limits = replace(Limits(), receiving=len(PICTURE) - 1)
    async with running(f"sqlite:///{tmp_path / 'db'}", DiskStore(tmp_path / "objects"), limits) as service:
        error = await refused(service.stub.PutAsset(put_stream(PICTURE, OUTPUT), metadata=internal()))
        assert (error.code, error.reason, error.retry_after) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED", 1.0)
        assert service.storage.archive._memory.used == 0


async def test_an_upload_that_stalls_is_given_up(tmp_path: Path) -> None:
    limits = replace(Limits(), idle=0.05)
    async with running(f"sqlite:///{tmp_path / 'db'}", DiskStore(tmp_path / "objects"), limits) as service:
        call = service.stub.PutAsset(metadata=internal())
        await call.write(whole(PICTURE)[0])
        error = await refused(call)
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")
        assert "no message came" in error.message


async def test_an_upload_whose_stream_is_never_ended_is_given_up(tmp_path: Path) -> None:
    limits = replace(Limits(), idle=0.05)
    async with running(f"sqlite:///{tmp_path / 'db'}", DiskStore(tmp_path / "objects"), limits) as service:
        call = service.stub.PutAsset(metadata=internal())
        for message in whole(PICTURE):
            await call.write(message)
        error = await refused(call)
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")
        assert service.storage.archive._memory.used == 0


async def test_an_upload_that_its_caller_drops_leaves_nothing(local: Running, tmp_path: Path) -> None:
    call = local.stub.PutAsset(metadata=internal())
    for message in whole(PICTURE)[:3]:
        await call.write(message)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await local.put(picture(5))  # the service goes on
    assert len(object_files(tmp_path / "objects")) == 1


ID = "ast_x"
REQUESTS: dict[str, tuple[Callable[[Running], object], str]] = {
    "get without id": (lambda s: s.stub.GetAsset(pb.GetAssetRequest(), metadata=internal()), "asset_id"),
    "get a path": (lambda s: s.stub.GetAsset(pb.GetAssetRequest(asset_id="../x"), metadata=internal()), "asset_id"),
    "negative offset": (
        lambda s: s.stub.ReadAsset(pb.ReadAssetRequest(asset_id=ID, offset=-1), metadata=internal()),
        "offset",
    ),
    "negative limit": (
        lambda s: s.stub.ReadAsset(pb.ReadAssetRequest(asset_id=ID, limit=-1), metadata=internal()),
        "limit",
    ),
    "negative page": (
        lambda s: s.stub.ListAssets(pb.ListAssetsRequest(page_size=-1), metadata=internal()),
        "page_size",
    ),
    "unknown state": (lambda s: s.stub.ListAssets(pb.ListAssetsRequest(state=77), metadata=internal()), "state"),
    "broken token": (
        lambda s: s.stub.ListAssets(pb.ListAssetsRequest(page_token="x"), metadata=internal()),
        "page_token",
    ),
    "no verdict": (
        lambda s: s.stub.PublishAsset(pb.PublishAssetRequest(asset_id=ID), metadata=internal()),
        "verdict_id",
    ),
    "no hash": (lambda s: s.stub.TakeDownContent(pb.TakeDownContentRequest(), metadata=internal()), "sha256"),
    "upper-case hash": (
        lambda s: s.stub.TakeDownContent(pb.TakeDownContentRequest(sha256="A" * 64), metadata=internal()),
        "sha256",
    ),
    "long reason": (
        lambda s: s.stub.SetHold(pb.SetHoldRequest(asset_id=ID, reason="x" * 257), metadata=internal()),
        "reason",
    ),
    "nothing to sign": (lambda s: s.stub.SignUrls(pb.SignUrlsRequest(), metadata=internal()), "specs"),
    "no time": (lambda s: sign(s, asset_pb2.RenditionSpec(), Duration()), "ttl.seconds"),
    "too much time": (lambda s: sign(s, asset_pb2.RenditionSpec(), Duration(seconds=604_801)), "ttl.seconds"),
    "too wide": (lambda s: sign(s, asset_pb2.RenditionSpec(width=4097)), "specs[0].rendition.width"),
    "negative height": (lambda s: sign(s, asset_pb2.RenditionSpec(height=-1)), "specs[0].rendition.height"),
    "cover without sides": (
        lambda s: sign(s, asset_pb2.RenditionSpec(fit=asset_pb2.FIT_COVER, width=5)),
        "specs[0].rendition.fit",
    ),
    "unknown fit": (lambda s: sign(s, asset_pb2.RenditionSpec(fit=9)), "specs[0].rendition.fit"),
    "unknown format": (lambda s: sign(s, asset_pb2.RenditionSpec(format="gif")), "specs[0].rendition.format"),
    "too good": (lambda s: sign(s, asset_pb2.RenditionSpec(quality=101)), "specs[0].rendition.quality"),
    "png quality": (lambda s: sign(s, asset_pb2.RenditionSpec(format="png", quality=5)), "specs[0].rendition.quality"),
}


def sign(storage: Running, rendition: asset_pb2.RenditionSpec, ttl: Duration | None = None) -> object:
    request = pb.SignUrlsRequest(specs=[pb.UrlSpec(asset_id=ID, rendition=rendition)], ttl=ttl)
    return storage.stub.SignUrls(request, metadata=internal())


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_wrong_request_names_its_field(local: Running, name: str) -> None:
    call, field = REQUESTS[name]
    error = await refused(call(local))
    assert error.code is Code.INVALID_ARGUMENT
    assert field in [v.field for v in error.violations]


async def test_create_rendition_is_for_later(local: Running) -> None:
    error = await refused(local.stub.CreateRendition(pb.CreateRenditionRequest(asset_id=ID), metadata=internal()))
    assert (error.code, error.reason) == (Code.UNIMPLEMENTED, "NOT_IMPLEMENTED")


INTERNAL_ONLY = {
    "CopyAsset": pb.CopyAssetRequest(),
    "PublishAsset": pb.PublishAssetRequest(),
    "BlockAsset": pb.BlockAssetRequest(),
    "TakeDownContent": pb.TakeDownContentRequest(),
    "RestoreContent": pb.RestoreContentRequest(),
    "SetHold": pb.SetHoldRequest(),
    "ResolveUrl": pb.ResolveUrlRequest(),
}


@pytest.mark.parametrize("rpc", INTERNAL_ONLY)
@pytest.mark.parametrize("who", ["acme", "operator", "reviewer"])
async def test_internal_rpcs_are_refused_to_everyone_else(local: Running, rpc: str, who: str) -> None:
    error = await refused(getattr(local.stub, rpc)(INTERNAL_ONLY[rpc], metadata=key(who)))
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")


@pytest.mark.parametrize(("metadata", "reason"), [((), "KEY_MISSING"), (key("nobody"), "KEY_INVALID")])
async def test_a_missing_or_wrong_key_is_refused(local: Running, metadata: object, reason: str) -> None:
    error = await refused(local.stub.GetAsset(pb.GetAssetRequest(asset_id=ID), metadata=metadata))
    assert (error.code, error.reason) == (Code.UNAUTHENTICATED, reason)


async def test_garbage_instead_of_a_message_is_refused(local: Running) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{local.storage.server.port}") as channel:
        put = channel.stream_unary("/imagemesh.storage.v1.StorageService/PutAsset")
        error = await refused(put(garbage(), metadata=internal()))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")


def garbage() -> Iterator[bytes]:
    yield b"\xff\xff\xff\xff"
