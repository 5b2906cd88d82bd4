"""Object stores: one port, one line for each adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.storage.config import S3Config, StorageSettings
from services.storage.objects.base import ObjectMissing, ObjectStore, ObjectStoreError
from services.storage.objects.disk import DiskStore
from services.storage.objects.recent import Recent
from services.storage.objects.s3 import S3Store


def _disk(settings: StorageSettings) -> ObjectStore:
    return DiskStore(Path(unquote(urlsplit(settings.objects).path)), fsync=settings.objects_fsync)


def _s3(settings: StorageSettings) -> ObjectStore:
    return S3Store(
        S3Config(
            endpoint=settings.s3_endpoint,
            bucket=urlsplit(settings.objects).netloc,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            region=settings.s3_region,
        )
    )


STORES: Mapping[str, Callable[[StorageSettings], ObjectStore]] = {"file": _disk, "s3": _s3}


def open_objects(settings: StorageSettings) -> ObjectStore:
    """The adapter for the scheme of `settings.objects`, with a memory of what was just stored in front of it."""
    store = STORES[urlsplit(settings.objects).scheme](settings)
    return Recent(store, settings.objects_recent_bytes)


__all__ = ["STORES", "ObjectMissing", "ObjectStore", "ObjectStoreError", "open_objects"]
