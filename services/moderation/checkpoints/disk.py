"""Checkpoints as files of one folder; it should lie on another disk than the database, or be backed up apart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from services.moderation.checkpoints.base import PAGE, Checkpoint, CheckpointStoreError, document, name_of, named

T = TypeVar("T")


class DiskCheckpoints:
    """Files under `root`, which is made when it is first needed; see `CheckpointStore`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    async def put(self, checkpoint: Checkpoint) -> None:
        """Writes beside, syncs, and links under the name, which fails when it is taken."""
        await self._run(lambda: self._put(checkpoint))

    async def after(self, previous: Checkpoint | None) -> list[Checkpoint]:
        """Reads the folder's list."""
        return await self._run(lambda: self._after("" if previous is None else name_of(previous)))

    async def delete(self, checkpoint: Checkpoint) -> None:
        """Removes the file."""
        await self._run(lambda: (self._root / name_of(checkpoint)).unlink(missing_ok=True))

    async def close(self) -> None:
        """Waits for the running call."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        with disk_errors():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _put(self, checkpoint: Checkpoint) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        temporary = self._root / f".{uuid4().hex}"
        try:
            with open(temporary, "xb") as file:
                file.write(document(checkpoint))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(temporary, self._root / name_of(checkpoint))
        finally:
            temporary.unlink(missing_ok=True)
        self._sync()

    def _after(self, last: str) -> list[Checkpoint]:
        try:
            names = sorted(name for name in os.listdir(self._root) if name > last and named(name))[:PAGE]
        except FileNotFoundError:
            return []
        return [found for name in names if (found := named(name))]

    def _sync(self) -> None:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Inside it, an OSError becomes a CheckpointStoreError."""
    try:
        yield
    except OSError as error:
        text = f"the folder of checkpoints failed: {error.strerror or type(error).__name__}"
        raise CheckpointStoreError(text) from error
