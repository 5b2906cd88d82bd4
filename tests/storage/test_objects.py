"""One contract for every object store, and what each does when its server or disk fails."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import minio.error
import pytest
import urllib3.exceptions
from pydantic import SecretStr

from mesh.errors import Code, Unavailable
from services.storage.config import S3Config, StorageSettings
from services.storage.objects import STORES, open_objects
from services.storage.objects.base import ObjectMissing, ObjectStore, ObjectStoreError
from services.storage.objects.disk import DiskStore, disk_errors
from services.storage.objects.recent import Recent
from services.storage.objects.s3 import S3Store, s3_errors
from tests.storage.running import SIGNING_KEYS, TOKEN

DATA = os.urandom(3 << 20)


async def test_what_was_put_is_read(objects: ObjectStore) -> None:
    await objects.put("acme/ab/abcd.1", DATA)
    assert await objects.read("acme/ab/abcd.1", 0, len(DATA)) == DATA


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 1), (0, 1 << 20), (1 << 20, 1 << 20), (len(DATA) - 1, 10), (len(DATA), 10), (1 << 40, 1)]
)
async def test_any_part_can_be_read(objects: ObjectStore, offset: int, length: int) -> None:
    await objects.put("part", DATA)
    assert await objects.read("part", offset, length) == DATA[offset : offset + length]


async def test_an_empty_object_is_an_object(objects: ObjectStore) -> None:
    await objects.put("empty", b"")
    assert await objects.read("empty", 0, 10) == b""


async def test_a_repeated_put_overwrites(objects: ObjectStore) -> None:
    await objects.put("twice", b"first, and longer")
    await objects.put("twice", b"second")
    assert await objects.read("twice", 0, 100) == b"second"


async def test_a_missing_object_is_told_apart(objects: ObjectStore) -> None:
    with pytest.raises(ObjectMissing) as caught:
        await objects.read("acme/never", 0, 1)
    assert caught.value.code is Code.DATA_LOSS


async def test_deleting_is_repeatable_and_hits_one_object(objects: ObjectStore) -> None:
    await objects.put("acme/ab/one", b"1")
    await objects.put("acme/ab/one.r-2", b"2")
    for _ in range(2):
        await objects.delete("acme/ab/one")
    with pytest.raises(ObjectMissing):
        await objects.read("acme/ab/one", 0, 1)
    assert await objects.read("acme/ab/one.r-2", 0, 1) == b"2"
    await objects.delete("acme/none/none")


async def test_many_at_once(objects: ObjectStore) -> None:
    keys = [f"t{n % 5}/{n % 7}/{n}" for n in range(60)]
    await asyncio.gather(*(objects.put(key, key.encode() * 1000) for key in keys))
    read = await asyncio.gather(*(objects.read(key, 0, 1 << 20) for key in keys))
    assert read == [key.encode() * 1000 for key in keys]


async def test_racing_puts_of_one_key_leave_one_whole_object(objects: ObjectStore) -> None:
    bodies = [bytes([n]) * 100_000 for n in range(8)]
    await asyncio.gather(*(objects.put("raced", body) for body in bodies))
    assert await objects.read("raced", 0, 1 << 20) in bodies


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a\0b", "ä", "a b", "a\n"]
)
async def test_strange_keys_are_refused(objects: ObjectStore, key: str) -> None:
    for call in (objects.put(key, b""), objects.read(key, 0, 1), objects.delete(key)):
        with pytest.raises(ValueError, match="object key"):
            await call


async def test_ping_and_close_may_be_repeated(objects: ObjectStore) -> None:
    await objects.ping()
    await objects.ping()
    await objects.close()
    await objects.close()


async def test_disk_leaves_no_half_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DiskStore(tmp_path)
    await store.ping()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ObjectStoreError, match="No space left"):
        await store.put("a/b", DATA)
    monkeypatch.undo()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    await store.put("a/b", DATA)
    assert await store.read("a/b", 0, 5) == DATA[:5]
    await store.close()


async def test_disk_clears_what_a_kill_left_behind(tmp_path: Path) -> None:
    (tmp_path / ".tmp").mkdir()
    old, young = tmp_path / ".tmp" / "old", tmp_path / ".tmp" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    store = DiskStore(tmp_path)
    await store.ping()
    assert (old.exists(), young.exists()) == (False, True)
    await store.close()


async def test_disk_syncs_bytes_before_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("fdatasync", "fsync")}
    monkeypatch.setattr(os, "fdatasync", lambda fd: (done.append("data"), real["fdatasync"](fd)))
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append(f"folder {os.readlink(f'/proc/self/fd/{fd}')}"), real["fsync"](fd))
    )
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda source, target: (done.append("name"), rename(source, target))[1])
    store = DiskStore(tmp_path)
    await store.put("t/ab/x", DATA)
    named = ["data", "name", f"folder {tmp_path}/t/ab"]
    assert done == [f"folder {tmp_path}/t", f"folder {tmp_path}", *named]
    await store.put("t/ab/y", DATA)
    assert done[-3:] == named
    assert len(done) == 2 + 2 * len(named)
    await store.close()


async def test_a_folder_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    await store.put("t/ab/x", DATA)
    shutil.rmtree(tmp_path / "t")
    with pytest.raises(ObjectStoreError):
        await store.put("t/ab/y", DATA)
    await store.put("t/ab/y", DATA)
    assert await store.read("t/ab/y", 0, len(DATA)) == DATA
    assert not list((tmp_path / ".tmp").iterdir())
    await store.close()


async def test_memory_has_a_bound_and_an_end(tmp_path: Path) -> None:
    now = [0.0]
    disk = DiskStore(tmp_path)
    store = Recent(disk, 1000, lambda: now[0])
    for name in ("a", "b", "c"):
        await store.put(name, name.encode() * 400)
    assert store.size == 800
    await disk.delete("a")
    await disk.delete("b")
    assert await store.read("b", 0, 3) == b"bbb"
    with pytest.raises(ObjectMissing):
        await store.read("a", 0, 3)
    now[0] = 61
    with pytest.raises(ObjectMissing):
        await store.read("b", 0, 3)
    assert store.size == 0
    assert await store.read("c", 0, 3) == b"ccc"
    await store.put("large", bytes(1001))
    assert store.size == 0
    await store.close()


async def test_memory_never_holds_what_was_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = DiskStore(tmp_path)
    store = Recent(disk, 1000)

    async def failing(key: str, data: bytes) -> None:
        raise ObjectStoreError("full")

    monkeypatch.setattr(disk, "put", failing)
    with pytest.raises(ObjectStoreError):
        await store.put("a", b"1")
    with pytest.raises(ObjectMissing):
        await store.read("a", 0, 1)
    await store.close()


async def test_a_disk_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = DiskStore(tmp_path / "file" / "objects")
    for call in (store.ping(), store.put("a", b"1")):
        with pytest.raises(Unavailable):
            await call
    await store.close()


async def test_an_s3_server_that_is_gone_is_unavailable() -> None:
    store = S3Store(S3Config("http://127.0.0.1:1", "bucket", "a", SecretStr("secret"), timeout=1.0))
    for call in (store.ping(), store.put("a", b"1"), store.read("a", 0, 1), store.delete("a")):
        with pytest.raises(ObjectStoreError) as caught:
            await call
        assert caught.value.retry_after == 1.0
    await store.close()


async def test_wrong_credentials_are_unavailable_and_unspoken(s3_server: object) -> None:
    good = s3_server.config("bucket-x")  # type: ignore[attr-defined]
    store = S3Store(S3Config(good.endpoint, "bucket-x", good.access_key, SecretStr("wrong-secret")))
    with pytest.raises(ObjectStoreError) as caught:
        await store.put("a", b"1")
    assert "wrong-secret" not in str(caught.value)
    await store.close()


NOT_OF_REQUESTS = {
    "MinioAdminException",  # of the administration client
    "ProxySchemeUnsupported",  # of a proxy's settings; there is no proxy
}


def vendor_exceptions() -> Iterator[type[Exception]]:
    for module in (minio.error, urllib3.exceptions):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            own = issubclass(kind, Exception) and kind.__module__ == module.__name__
            if own and not issubclass(kind, Warning) and name not in NOT_OF_REQUESTS:
                yield kind


@pytest.mark.parametrize("kind", vendor_exceptions(), ids=lambda k: k.__name__)
def test_every_exception_of_the_client_is_translated(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if kind is minio.error.S3Error:
        error = minio.error.S3Error(None, "AccessDenied", "the secret is …", "", "", "")  # type: ignore[arg-type]
    with pytest.raises(ObjectStoreError) as caught, s3_errors():
        raise error
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS, errno.EMFILE])
def test_every_failure_of_the_disk_is_translated(number: int) -> None:
    with pytest.raises(ObjectStoreError), disk_errors():
        raise OSError(number, os.strerror(number))


def settings(**fields: str) -> StorageSettings:
    return StorageSettings(signing_keys=SIGNING_KEYS, mesh_token=TOKEN, **fields)  # type: ignore[arg-type]


async def test_the_table_opens_what_the_url_names(tmp_path: Path) -> None:
    assert set(STORES) == {"file", "s3"}
    disk = open_objects(settings(objects=(tmp_path / "with space").as_uri()))
    assert isinstance(disk, Recent)
    await disk.put("a", b"1")
    assert (tmp_path / "with space" / "a").read_bytes() == b"1"
    s3 = open_objects(
        settings(objects="s3://bucket", s3_endpoint="http://127.0.0.1:1", s3_access_key="a", s3_secret_key="s")
    )
    assert isinstance(s3._inner, S3Store)
    await disk.close()
    await s3.close()
