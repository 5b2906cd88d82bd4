"""The HTTP port: what a signed address serves, and that nothing else is served."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import pyvips
from google.protobuf.duration_pb2 import Duration
from imagemesh.storage.v1 import asset_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb
from yarl import URL

from mesh.errors import Code
from services.storage.signing import KeyRing, sign
from tests.storage.running import SIGNING_KEYS, Running, internal, object_files, picture, refused, sha256

RING = KeyRing.parse(SIGNING_KEYS)
FAR = 4_000_000_000
Headers = dict[str, str]


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


def raw(url: str) -> URL:
    """Sent byte for byte."""
    return URL(url, encoded=True)


async def status(web: aiohttp.ClientSession, url: str, method: str = "GET") -> int:
    async with web.request(method, raw(url)) as answer:
        return answer.status


async def test_an_address_serves_the_original(local: Running, web: aiohttp.ClientSession) -> None:
    data = picture(1, 1200, 1100)
    asset = await local.published(data)
    async with web.get(raw(await local.url(asset.asset_id))) as answer:
        assert answer.status == 200
        assert await answer.read() == data
        headers = answer.headers
    assert headers["Content-Type"] == "image/png"
    assert headers["ETag"] == f'"{asset.sha256}"'
    assert headers["Content-Length"] == str(len(data))
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_large_original_is_streamed_whole(local: Running, web: aiohttp.ClientSession) -> None:
    data = picture(1, 3000, 2600)
    assert len(data) > 4 << 20
    asset = await local.published(data)
    url = raw(await local.url(asset.asset_id))
    async with web.get(url) as answer:
        assert sha256(await answer.read()) == asset.sha256
        assert answer.content_length == len(data)
    async with web.get(url, headers={"Range": "bytes=1000-"}) as answer:
        assert await answer.read() == data[1000:]


async def test_head_tells_the_same_without_the_body(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.published(picture(1))
    url = raw(await local.url(asset.asset_id))
    async with web.head(url) as head, web.get(url) as get:
        assert (head.status, await head.read()) == (200, b"")
        same = ("ETag", "Content-Length", "Content-Type", "Accept-Ranges")
        assert {name: head.headers[name] for name in same} == {name: get.headers[name] for name in same}


async def test_max_age_never_exceeds_the_signatures_life(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.published(picture(1))
    for ttl, most in ((60, 60), (86_400, 3600)):
        request = pb.SignUrlsRequest(specs=[pb.UrlSpec(asset_id=asset.asset_id)], ttl=Duration(seconds=ttl))
        signed = (await local.stub.SignUrls(request, metadata=internal())).results[0].url
        expires = int(parse_qs(urlsplit(signed.url).query)["exp"][0])
        assert signed.expire_time.seconds == expires
        async with web.get(raw(signed.url)) as answer:
            age = int(re.search(r"max-age=(\d+)", answer.headers["Cache-Control"])[1])  # type: ignore[index]
        assert most - 10 <= age <= most


TAMPERED = {
    "no signature": lambda u: u.split("&sig=")[0],
    "no query": lambda u: u.split("?")[0],
    "empty signature": lambda u: u.split("&sig=")[0] + "&sig=",
    "another signature": lambda u: u[:-4] + ("AAAA" if not u.endswith("AAAA") else "BBBB"),
    "longer signature": lambda u: u + "A",
    "padded signature": lambda u: u + "=",
    "appended parameter": lambda u: u + "&w=10",
    "repeated signature": lambda u: u + "&sig=" + u.split("&sig=")[1],
    "fragment of another width": lambda u: u.replace("w=20", "w=21"),
    "dropped width": lambda u: u.replace("w=20&", ""),
    "another format": lambda u: u.replace("f=webp", "f=png"),
    "added fit": lambda u: u.replace("&f=webp", "&fit=contain&f=webp"),
    "later expiry": lambda u: re.sub(r"exp=(\d+)", lambda m: f"exp={int(m[1]) + 1}", u),
    "another key": lambda u: u.replace("kid=new", "kid=old"),
    "unknown key": lambda u: u.replace("kid=new", "kid=none"),
    "no key": lambda u: u.replace("&kid=new", ""),
    "another asset": lambda u: u.replace("/a/ast_", "/a/ast_0"),
    "another order": lambda u: re.sub(r"w=20&f=webp", "f=webp&w=20", u),
    "another spelling": lambda u: u.replace("w=20", "w=%320"),
    "encoded path": lambda u: u.replace("/a/ast_", "/a/%61st_"),
    "double question mark": lambda u: u.replace("?", "??"),
}


@pytest.mark.parametrize("name", TAMPERED)
async def test_any_change_to_an_address_is_forbidden(local: Running, web: aiohttp.ClientSession, name: str) -> None:
    asset = await local.published(picture(1))
    url = await local.url(asset.asset_id, asset_pb2.RenditionSpec(width=20, format="webp"))
    changed = TAMPERED[name](url)
    assert changed != url
    async with web.get(raw(changed)) as answer:
        assert answer.status == 403
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
    assert await status(web, url) == 200


async def test_an_expired_address_is_forbidden(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.published(picture(1))
    gone = local.base + sign(RING, f"/a/{asset.asset_id}", "", 1_700_000_000)
    assert await status(web, gone) == 403
    assert await status(web, local.base + sign(RING, f"/a/{asset.asset_id}", "", FAR)) == 200


async def test_an_older_key_of_the_ring_still_opens(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.published(picture(1))
    older = replace(RING, current="old")
    assert await status(web, local.base + sign(older, f"/a/{asset.asset_id}", "", FAR)) == 200


@pytest.mark.parametrize("query", ["w=5000", "f=gif", "x=1", "q=5&w=1", "w=01", "fit=cover&w=1", "w=1&w=2", "w=-1"])
async def test_even_our_own_signature_opens_only_what_we_write(
    local: Running, web: aiohttp.ClientSession, query: str
) -> None:
    asset = await local.published(picture(1))
    assert await status(web, local.base + sign(RING, f"/a/{asset.asset_id}", query, FAR)) == 403


async def test_nothing_is_found_that_is_not_published(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.put(picture(1))
    url = local.base + sign(RING, f"/a/{asset.asset_id}", "", FAR)
    rendition = local.base + sign(RING, f"/a/{asset.asset_id}", "w=10", FAR)
    unknown = local.base + sign(RING, "/a/ast_never", "", FAR)

    async def seen() -> list[int]:
        return [await status(web, u) for u in (url, rendition, unknown)]

    assert await seen() == [404, 404, 404]
    await local.publish(asset)
    assert await seen() == [200, 200, 404]
    await local.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=asset.sha256), metadata=internal(""))
    assert await seen() == [404, 404, 404]
    async with web.get(raw(url), headers={"If-None-Match": f'"{asset.sha256}"'}) as answer:
        assert answer.status == 404
    await local.stub.RestoreContent(pb.RestoreContentRequest(sha256=asset.sha256), metadata=internal(""))
    assert await seen() == [200, 200, 404]
    await local.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=asset.asset_id), metadata=internal())
    assert await seen() == [404, 404, 404]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [('"{}"', 304), ('W/"{}"', 304), ('"x", "{}"', 304), ("*", 304), ('"x"', 200), ("", 200), ("{}", 200)],
)
async def test_if_none_match(local: Running, web: aiohttp.ClientSession, tag: str, expected: int) -> None:
    asset = await local.published(picture(1))
    url = raw(await local.url(asset.asset_id))
    async with web.get(url, headers={"If-None-Match": tag.format(asset.sha256)}) as answer:
        assert answer.status == expected
        assert answer.headers["ETag"] == f'"{asset.sha256}"'
        assert "max-age" in answer.headers["Cache-Control"]
        if expected == 304:
            assert await answer.read() == b""


@pytest.mark.parametrize(
    ("header", "expected", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-10", 206, slice(-10, None)),
        ("bytes=0-999999999", 206, slice(0, None)),
        ("bytes=-999999999", 206, slice(0, None)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=5-4", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes=", 200, slice(None)),
        ("bytes=999999999-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
async def test_ranges(
    local: Running, web: aiohttp.ClientSession, header: str, expected: int, part: slice | None
) -> None:
    data = picture(1)
    asset = await local.published(data)
    async with web.get(raw(await local.url(asset.asset_id)), headers={"Range": header}) as answer:
        assert answer.status == expected
        body = await answer.read()
        told = answer.headers.get("Content-Range")
    if part is None:
        assert (body, told) == (b"", f"bytes */{len(data)}")
    else:
        assert body == data[part]
    if expected == 206 and part is not None:
        first, last, _ = part.indices(len(data))
        assert told == f"bytes {first}-{last - 1}/{len(data)}"


async def test_a_range_of_another_version_gets_the_whole(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.published(picture(1))
    url = raw(await local.url(asset.asset_id))
    for tag, expected in ((f'"{asset.sha256}"', 206), ('"older"', 200)):
        async with web.get(url, headers={"Range": "bytes=0-9", "If-Range": tag}) as answer:
            assert answer.status == expected


async def test_a_rendition_is_made_on_its_first_request_and_kept(
    local: Running, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    asset = await local.published(picture(1, 400, 300))
    url = raw(await local.url(asset.asset_id, asset_pb2.RenditionSpec(width=100, format="webp")))
    assert len(object_files(tmp_path / "objects")) == 1
    async with web.get(url) as answer:
        first, tag = await answer.read(), answer.headers["ETag"]
        assert answer.headers["Content-Type"] == "image/webp"
    image = pyvips.Image.new_from_buffer(first, "")
    assert (image.width, image.height) == (100, 75)
    assert tag == f'"{sha256(first)}"' != f'"{asset.sha256}"'
    assert len(object_files(tmp_path / "objects")) == 2
    async with web.get(url) as answer:
        assert (await answer.read(), answer.headers["ETag"]) == (first, tag)
    async with web.get(url, headers={"Range": "bytes=0-3"}) as answer:
        assert await answer.read() == b"RIFF"
    assert len(object_files(tmp_path / "objects")) == 2


async def test_healthz_and_nothing_else(local: Running, web: aiohttp.ClientSession) -> None:
    assert await status(web, f"{local.base}/healthz") == 200
    assert await status(web, f"{local.base}/") == 404
    assert await status(web, f"{local.base}/a/") == 404
    assert await status(web, f"{local.base}/a/ast_x/../../etc") == 404
    asset = await local.published(picture(1))
    assert await status(web, await local.url(asset.asset_id), "POST") == 405


async def test_bytes_that_cannot_be_read_are_a_plain_error(
    local: Running, web: aiohttp.ClientSession, tmp_path: Path
) -> None:
    asset = await local.published(picture(1))
    (tmp_path / "objects" / object_files(tmp_path / "objects")[0]).unlink()
    async with web.get(raw(await local.url(asset.asset_id))) as answer:
        assert answer.status == 500
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_range_means_nothing_to_head(local: Running, web: aiohttp.ClientSession) -> None:
    asset = await local.published(picture(1))
    url = raw(await local.url(asset.asset_id))
    async with web.head(url, headers={"Range": "bytes=0-9"}) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(asset.size_bytes))


@pytest.mark.parametrize("left", [0, 9_000, 5 << 20])
async def test_an_object_that_lost_its_end_is_an_error_and_no_endless_answer(
    local: Running, web: aiohttp.ClientSession, tmp_path: Path, left: int
) -> None:
    data = picture(1, 2000, 1600)
    assert len(data) > 5 << 20
    asset = await local.published(data)
    os.truncate(tmp_path / "objects" / object_files(tmp_path / "objects")[0], left)
    error = await refused(local.stub.ReadAsset(pb.ReadAssetRequest(asset_id=asset.asset_id), metadata=internal()))
    assert error.code is Code.DATA_LOSS
    async with web.get(raw(await local.url(asset.asset_id))) as answer:
        if answer.status == 200:  # what has begun can only be broken off
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        else:
            assert (answer.status, answer.headers["Cache-Control"]) == (500, "no-store")
