"""One contract for every store of checkpoints, and what each does when its server or disk fails."""

from __future__ import annotations

import asyncio
import errno
import inspect
import io
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import minio.error
import pytest
import urllib3.exceptions
from pydantic import SecretStr, ValidationError

from services.moderation.checkpoints import STORES, Checkpoint, CheckpointStore, CheckpointStoreError, open_checkpoints
from services.moderation.checkpoints import s3 as s3_module
from services.moderation.checkpoints.disk import DiskCheckpoints, disk_errors
from services.moderation.checkpoints.s3 import S3Checkpoints, S3Place, s3_errors
from services.moderation.config import ModerationSettings
from tests.conftest import free_port, missing
from tests.storage.s3_server import ACCESS, SECRET, S3Server, versitygw_binary


def checkpoint(sequence: int, chain: str = "ab") -> Checkpoint:
    return Checkpoint(sequence, chain * 32, 1_700_000_000_000_000 + sequence)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    binary = versitygw_binary()
    if binary is None:
        missing("versitygw")
        return
    server = S3Server(binary, tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


def place(port: int, bucket: str = "audit", secret: str = SECRET) -> S3Place:
    return S3Place(f"http://127.0.0.1:{port}", bucket, "chain/", ACCESS, SecretStr(secret))


@pytest.fixture(params=["file", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CheckpointStore]:
    if request.param == "file":
        made: CheckpointStore = DiskCheckpoints(tmp_path / "not" / "yet")
    else:
        server: S3Server = request.getfixturevalue("s3")
        made = S3Checkpoints(place(server.port, f"b{os.urandom(6).hex()}"))
    yield made
    await made.close()
    await made.close()


async def test_nothing_is_there_at_first(store: CheckpointStore) -> None:
    assert await store.after(None) == []


async def test_what_was_put_is_listed_by_sequence(store: CheckpointStore) -> None:
    for sequence in (10, 9, 100, 1):
        await store.put(checkpoint(sequence))
    assert await store.after(None) == [checkpoint(n) for n in (1, 9, 10, 100)]
    assert await store.after(checkpoint(9)) == [checkpoint(10), checkpoint(100)]
    assert await store.after(checkpoint(100)) == []


async def test_a_repeat_changes_nothing(store: CheckpointStore) -> None:
    for _ in range(2):
        await store.put(checkpoint(3))
    assert await store.after(None) == [checkpoint(3)]


async def test_two_that_contradict_each_other_are_both_kept(store: CheckpointStore) -> None:
    other = checkpoint(3, "cd")
    await store.put(checkpoint(3))
    await store.put(other)
    assert await store.after(None) == [checkpoint(3), other]


async def test_deleting_is_repeatable_and_hits_one(store: CheckpointStore) -> None:
    for sequence in (1, 2):
        await store.put(checkpoint(sequence))
    for _ in range(2):
        await store.delete(checkpoint(1))
    assert await store.after(None) == [checkpoint(2)]


async def test_long_lists_come_in_pages(tmp_path: Path) -> None:
    store = DiskCheckpoints(tmp_path)
    await store.put(checkpoint(1))
    (first,) = tmp_path.iterdir()
    for sequence in range(2, 1_002):
        os.link(first, tmp_path / first.name.replace(f"{1:020d}", f"{sequence:020d}"))
    page = await store.after(None)
    assert len(page) == 1_000
    assert [found.sequence for found in await store.after(page[-1])] == [1_001]
    await store.close()


async def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("readme.txt", f"{1:020d}.5.{'g' * 64}.json", f"{1:020d}.json", f".{1:020d}.5.{'a' * 64}.json"):
        (tmp_path / name).write_text("")
    store = DiskCheckpoints(tmp_path)
    assert await store.after(None) == []
    await store.close()


async def test_other_objects_hide_no_checkpoint(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "PAGE", 2)
    shared = place(s3.port, f"b{os.urandom(6).hex()}")
    store = S3Checkpoints(shared)
    for sequence in (1, 2, 3):
        await store.put(checkpoint(sequence))
    for name in ("a", "b", "00000000000000000001", "c"):
        await asyncio.to_thread(store._client.put_object, shared.bucket, f"chain/{name}", io.BytesIO(b"x"), 1)
    page = await store.after(None)
    assert [found.sequence for found in page] == [1, 2]
    assert [found.sequence for found in await store.after(page[-1])] == [3]
    await store.close()


async def test_an_absent_or_refusing_server_is_unavailable_and_keeps_the_secret(s3: S3Server) -> None:
    for wrong in (place(free_port()), place(s3.port, "other", "a-wrong-secret")):
        store = S3Checkpoints(replace(wrong, timeout_s=1.0))
        with pytest.raises(CheckpointStoreError) as caught:
            await store.put(checkpoint(1))
        assert "secret" not in str(caught.value)
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


@pytest.mark.parametrize("kind", vendor_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_client_is_translated(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    if kind is minio.error.S3Error:
        error = minio.error.S3Error(None, "AccessDenied", "the secret is …", "", "", "")  # type: ignore[arg-type]
    with pytest.raises(CheckpointStoreError) as caught, s3_errors():
        raise error
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS])
def test_every_failure_of_the_disk_is_translated(number: int) -> None:
    with pytest.raises(CheckpointStoreError), disk_errors():
        raise OSError(number, os.strerror(number))


async def test_the_table_opens_what_the_address_names(tmp_path: Path) -> None:
    assert set(STORES) == {"file", "s3"}
    assert open_checkpoints(ModerationSettings()) is None
    disk = open_checkpoints(ModerationSettings(audit_checkpoints=(tmp_path / "with space").as_uri()))
    assert isinstance(disk, DiskCheckpoints)
    await disk.put(checkpoint(1))
    assert len(list((tmp_path / "with space").iterdir())) == 1
    s3 = open_checkpoints(
        ModerationSettings(
            audit_checkpoints="s3://bucket/audit",
            s3_endpoint="http://127.0.0.1:1",
            s3_access_key="a",
            s3_secret_key="s",
        )
    )
    assert isinstance(s3, S3Checkpoints)
    await disk.close()
    await s3.close()


@pytest.mark.parametrize("address", ["/a/path", "ftp://x/y", "s3://bucket"])
def test_an_address_that_cannot_work_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        ModerationSettings(audit_checkpoints=address)
