"""Checkpoints as objects of an S3-compatible server, through the `minio` client in one thread.

A bucket with object lock keeps them from whoever has the database and this service's key.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from pydantic import SecretStr

from services.moderation.checkpoints.base import PAGE, Checkpoint, CheckpointStoreError, document, name_of, named

T = TypeVar("T")
ATTEMPTS = 3


@dataclass(frozen=True)
class S3Place:
    """Where the objects lie. endpoint: `http(s)://host:port`. prefix: before each name, empty or ending in `/`."""

    endpoint: str
    bucket: str
    prefix: str
    access_key: str
    secret_key: SecretStr
    region: str = "us-east-1"
    timeout_s: float = 10.0


class S3Checkpoints:
    """Objects of one bucket, which is made at the first put if it is not there; see `CheckpointStore`."""

    def __init__(self, place: S3Place) -> None:
        self._place = place
        self._client = _client(place)
        self._has_bucket = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    async def put(self, checkpoint: Checkpoint) -> None:
        """Stores the object."""
        await self._run(lambda: self._put(checkpoint))

    async def after(self, previous: Checkpoint | None) -> list[Checkpoint]:
        """Lists the objects behind a name."""
        return await self._run(lambda: self._after(None if previous is None else self._key(previous)))

    async def delete(self, checkpoint: Checkpoint) -> None:
        """Removes the object."""
        await self._run(lambda: self._client.remove_object(self._place.bucket, self._key(checkpoint)))

    async def close(self) -> None:
        """Waits for the running call."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        with s3_errors():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _key(self, checkpoint: Checkpoint) -> str:
        return self._place.prefix + name_of(checkpoint)

    def _put(self, checkpoint: Checkpoint) -> None:
        bucket, data = self._place.bucket, document(checkpoint)
        if not self._has_bucket and not self._client.bucket_exists(bucket):
            self._client.make_bucket(bucket)
        self._has_bucket = True
        self._client.put_object(bucket, self._key(checkpoint), io.BytesIO(data), len(data))

    def _after(self, key: str | None) -> list[Checkpoint]:
        prefix = self._place.prefix
        listed = self._client.list_objects(self._place.bucket, prefix=prefix, start_after=key)
        ours = (found for item in listed if (found := named(str(item.object_name).removeprefix(prefix))))
        try:
            return list(islice(ours, PAGE))  # other objects may lie between them
        except S3Error as error:
            if error.code == "NoSuchBucket":
                return []
            raise


@contextmanager
def s3_errors() -> Iterator[None]:
    """Inside it, whatever the client raises becomes a CheckpointStoreError; texts of the server stay in the cause."""
    try:
        yield
    except S3Error as error:
        raise CheckpointStoreError(f"the store of checkpoints refused: {error.code}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise CheckpointStoreError("the store of checkpoints does not answer") from error


def _client(place: S3Place) -> Minio:
    parts = urlsplit(place.endpoint)
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=2.0, read=place.timeout_s),
        retries=urllib3.Retry(total=ATTEMPTS, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    return Minio(
        endpoint=parts.netloc,
        access_key=place.access_key,
        secret_key=place.secret_key.get_secret_value(),
        secure=parts.scheme == "https",
        region=place.region,
        http_client=pool,
    )
