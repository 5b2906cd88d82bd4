"""Objects in a bucket of an S3-compatible server, through the `minio` client in a bounded pool of threads."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from services.storage.config import S3Config
from services.storage.objects.base import ObjectMissing, ObjectStoreError, checked

T = TypeVar("T")
MISSING = frozenset({"NoSuchKey", "NoSuchObject"})
BEYOND_END = "InvalidRange"
ATTEMPTS = 3  # urllib3 repeats connect errors and 5xx answers of these idempotent calls


class S3Store:
    """One bucket; it is made at the first `ping` if it is not there."""

    def __init__(self, config: S3Config) -> None:
        self._bucket = config.bucket
        self._client = _client(config)
        self._threads = ThreadPoolExecutor(config.threads, thread_name_prefix="s3")

    async def put(self, key: str, data: bytes) -> None:
        """Stores the object in one request, up to 5 GiB."""
        await self._run(lambda: self._put(checked(key), data))

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Reads a part of the object with a range request."""
        return await self._run(lambda: self._read(checked(key), offset, length))

    async def delete(self, key: str) -> None:
        """Removes the object; S3 says yes too when there is none."""
        await self._run(lambda: self._client.remove_object(self._bucket, checked(key)))

    async def ping(self) -> None:
        """Looks for the bucket and makes it if need be."""
        await self._run(self._ensure_bucket)

    async def close(self) -> None:
        """Waits for running calls."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        with s3_errors():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _put(self, key: str, data: bytes) -> None:
        self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))

    def _read(self, key: str, offset: int, length: int) -> bytes:
        try:
            response = self._client.get_object(self._bucket, key, offset, length)
        except S3Error as error:
            if error.code in MISSING:
                raise ObjectMissing(key) from error
            if error.code == BEYOND_END:
                return b""
            raise
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def _ensure_bucket(self) -> None:
        if not self._client.bucket_exists(self._bucket):
            self._client.make_bucket(self._bucket)


@contextmanager
def s3_errors() -> Iterator[None]:
    """Inside it, whatever the client raises becomes an ObjectStoreError; texts of the server stay in the cause."""
    try:
        yield
    except S3Error as error:
        raise ObjectStoreError(f"the object store refused: {error.code}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise ObjectStoreError("the object store does not answer") from error


def _client(config: S3Config) -> Minio:
    parts = urlsplit(config.endpoint)
    pool = urllib3.PoolManager(
        maxsize=config.threads,
        timeout=urllib3.Timeout(connect=2.0, read=config.timeout),
        retries=urllib3.Retry(total=ATTEMPTS, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    return Minio(
        endpoint=parts.netloc,
        access_key=config.access_key,
        secret_key=config.secret_key.get_secret_value(),
        secure=parts.scheme == "https",
        region=config.region,
        http_client=pool,
    )
