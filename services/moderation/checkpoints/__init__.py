"""Stores of checkpoints: one port, one line for each adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.moderation.checkpoints.base import Checkpoint, CheckpointStore, CheckpointStoreError
from services.moderation.checkpoints.disk import DiskCheckpoints
from services.moderation.checkpoints.s3 import S3Checkpoints, S3Place
from services.moderation.config import ModerationSettings


def _disk(settings: ModerationSettings) -> CheckpointStore:
    return DiskCheckpoints(Path(unquote(urlsplit(settings.audit_checkpoints).path)))


def _s3(settings: ModerationSettings) -> CheckpointStore:
    parts = urlsplit(settings.audit_checkpoints)
    prefix = parts.path.strip("/")
    return S3Checkpoints(
        S3Place(
            endpoint=settings.s3_endpoint,
            bucket=parts.netloc,
            prefix=f"{prefix}/" if prefix else "",
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            region=settings.s3_region,
        )
    )


STORES: Mapping[str, Callable[[ModerationSettings], CheckpointStore]] = {"file": _disk, "s3": _s3}


def open_checkpoints(settings: ModerationSettings) -> CheckpointStore | None:
    """The adapter for the scheme of `settings.audit_checkpoints`; None when that is empty."""
    if not settings.audit_checkpoints:
        return None
    return STORES[urlsplit(settings.audit_checkpoints).scheme](settings)


__all__ = ["STORES", "Checkpoint", "CheckpointStore", "CheckpointStoreError", "open_checkpoints"]
