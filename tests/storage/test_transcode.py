"""Renditions: sizes, formats, marks, and that each is made once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import pyvips
from imagemesh.storage.v1 import asset_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb

from mesh.errors import Code, InvalidArgument, ResourceExhausted
from services.storage import rendering
from services.storage.config import RenditionLimits
from services.storage.rendering import Renditions
from services.storage.renditions import Order, Spec
from services.storage.transcode import DIGITAL_SOURCE_TYPE, transcode
from tests.storage.running import Running, internal, key, object_files, picture, put_stream, sha256

WIDE = picture(1, 400, 200)
FORMATS = ["webp", "avif", "jpeg", "png"]


def opened(data: bytes) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(data, "")


@pytest.mark.parametrize(
    ("width", "height", "fit", "size"),
    [
        (0, 0, "contain", (400, 200)),
        (100, 0, "contain", (100, 50)),
        (0, 100, "contain", (200, 100)),
        (100, 100, "contain", (100, 50)),
        (4000, 0, "contain", (400, 200)),
        (100, 100, "cover", (100, 100)),
        (800, 800, "cover", (800, 800)),
        (30, 300, "fill", (30, 300)),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_sizes(kind: str, width: int, height: int, fit: str, size: tuple[int, int]) -> None:
    made = transcode(WIDE, Order(width, height, fit, kind, 50 if kind != "png" else 0, marked=True))
    image = opened(made.data)
    assert (made.width, made.height) == (image.width, image.height) == size
    assert made.format == kind


@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_model_drew_says_so(kind: str, source: str) -> None:
    order = Order(50, 0, "contain", kind, 0 if kind == "png" else 60, marked=True)
    data = transcode(picture(1, kind=source), order).data
    assert DIGITAL_SOURCE_TYPE.encode() in opened(data).get("xmp-data")
    assert b"trainedAlgorithmicMedia" in data


def test_what_a_person_brought_does_not() -> None:
    assert not opened(transcode(WIDE, Order(50, 0, "contain", "webp", 60, marked=False)).data).get_typeof("xmp-data")


def test_other_metadata_of_the_source_is_dropped() -> None:
    image = opened(WIDE).copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Artist", "somebody")
    image.set_type(pyvips.GValue.blob_type, "xmp-data", b"<x:xmpmeta>where I live</x:xmpmeta>")
    source = image.write_to_buffer(".jpeg")
    assert b"somebody" in source
    made = transcode(source, Order(0, 0, "contain", "jpeg", 80, marked=False)).data
    assert b"somebody" not in made
    assert b"where I live" not in made


def test_transparency_becomes_white_in_jpeg() -> None:
    clear = pyvips.Image.black(8, 8, bands=4).copy(interpretation="srgb").cast("uchar").write_to_buffer(".png")
    made = opened(transcode(clear, Order(0, 0, "contain", "jpeg", 90, marked=False)).data)
    assert made.bands == 3
    assert made.avg() > 250


@pytest.mark.parametrize("data", [WIDE[: len(WIDE) // 2], b"no image", b""])
def test_what_cannot_be_decoded_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        transcode(data, Order(0, 0, "contain", "webp", 60, marked=True))
    assert caught.value.reason == "IMAGE_UNREADABLE"


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    made: list[Order] = []

    def count(data: bytes, order: Order) -> object:
        made.append(order)
        return transcode(data, order)

    monkeypatch.setattr(rendering, "transcode", count)
    return made


async def test_a_rendition_is_made_once_however_many_ask(
    storage: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = counting(monkeypatch)
    asset = await storage.published(WIDE)
    spec = asset_pb2.RenditionSpec(width=100, format="webp")
    answers = await asyncio.gather(*(storage.read(asset.asset_id, rendition=spec) for _ in range(20)))
    assert len(set(answers)) == 1
    assert len(made) == 1
    assert await storage.read(asset.asset_id, rendition=spec) == answers[0]
    assert len(made) == 1
    assert len(object_files(tmp_path / "objects")) == 2


async def test_a_read_tells_of_the_rendition(local: Running) -> None:
    asset = await local.published(WIDE)
    spec = asset_pb2.RenditionSpec(width=100, height=100, fit=asset_pb2.FIT_COVER, format="avif")
    request = pb.ReadAssetRequest(asset_id=asset.asset_id, rendition=spec)
    messages = [m async for m in local.stub.ReadAsset(request, metadata=key("acme"))]
    header, data = messages[0].header, b"".join(m.chunk.data for m in messages[1:])
    assert (header.media_type, header.size_bytes) == ("image/avif", len(data))
    told = header.rendition
    assert (told.asset_id, told.spec, told.sha256, told.width, told.height, told.format, told.size_bytes) == (
        asset.asset_id,
        spec,
        sha256(data),
        100,
        100,
        "avif",
        len(data),
    )


@pytest.mark.parametrize(("kind", "marked"), [(asset_pb2.ASSET_KIND_INPUT, False), (asset_pb2.ASSET_KIND_OUTPUT, True)])
async def test_only_outputs_are_marked(local: Running, kind: asset_pb2.AssetKind.ValueType, marked: bool) -> None:
    stream = put_stream(WIDE, pb.PutAssetHeader(kind=kind))
    asset = (await local.stub.PutAsset(stream, metadata=internal())).asset
    data = await local.read(asset.asset_id, rendition=asset_pb2.RenditionSpec(format="webp"))
    assert (b"trainedAlgorithmicMedia" in data) is marked


async def test_an_original_keeps_a_bounded_number_of_renditions(
    storage: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage.storage.renditions._store, "_kept", 2)
    asset = await storage.published(WIDE)
    for width in (10, 11, 12, 13):
        await storage.read(asset.asset_id, rendition=asset_pb2.RenditionSpec(width=width))
    while await storage.storage.sweeper.sweep():
        pass
    assert len(object_files(tmp_path / "objects")) == 3
    assert await storage.read(asset.asset_id, rendition=asset_pb2.RenditionSpec(width=10))


async def test_too_many_at_once_are_refused(local: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = RenditionLimits(threads=1, waiting=1)
    renditions = Renditions(local.storage.renditions._store, local.objects, limits)
    wire_asset = await local.published(WIDE)
    asset = await local.storage.store.get(wire_asset.asset_id, "")
    outcomes = await asyncio.gather(
        *(renditions.get(asset, Spec(width=width)) for width in (10, 11, 12)), return_exceptions=True
    )
    await renditions.close()
    refused = [o for o in outcomes if isinstance(o, BaseException)]
    assert len(refused) == 1
    assert isinstance(refused[0], ResourceExhausted)
    assert (refused[0].code, refused[0].retry_after) == (Code.RESOURCE_EXHAUSTED, 1.0)


async def test_originals_are_read_no_sooner_than_they_are_transcoded(
    local: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    renditions = Renditions(local.storage.renditions._store, local.objects, RenditionLimits(threads=2, waiting=8))
    asset = await local.storage.store.get((await local.published(WIDE)).asset_id, "")
    read, held, most = local.objects.read, 0, 0

    async def counted(*arguments: object) -> bytes:
        nonlocal held, most
        held += 1
        most = max(most, held)
        data = await read(*arguments)  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        held -= 1
        return data

    monkeypatch.setattr(local.objects, "read", counted)
    await asyncio.gather(*(renditions.get(asset, Spec(width=width)) for width in range(10, 18)))
    await renditions.close()
    assert most == 2


async def test_a_rendition_of_what_was_deleted_meanwhile_leaves_nothing(
    storage: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asset = await storage.published(WIDE)
    before = await storage.storage.store.get(asset.asset_id, "")
    reading: Callable[..., object] = storage.objects.read

    async def read_then_delete(key: str, offset: int, length: int) -> object:
        data = await reading(key, offset, length)  # type: ignore[misc]
        request = pb.DeleteAssetRequest(asset_id=asset.asset_id)
        await storage.stub.DeleteAsset(request, metadata=internal())
        return data

    monkeypatch.setattr(storage.objects, "read", read_then_delete)
    with pytest.raises(Exception, match="does not exist"):
        await storage.storage.renditions.get(before, Spec(width=10))
    await storage.storage.sweeper.sweep()
    assert object_files(tmp_path / "objects") == []
