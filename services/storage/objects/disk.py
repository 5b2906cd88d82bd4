"""Objects as files of one folder: the embedded default."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from services.storage.objects.base import ObjectMissing, ObjectStoreError, checked

T = TypeVar("T")
THREADS = 8
TEMPORARY = ".tmp"
LEFTOVER_S = 3600


class DiskStore:
    """Files under `root`. A put writes a temporary file, syncs it, renames it, and syncs the folder.

    `fsync=False` gives up the promise that a put outlives a power failure, and nothing else.
    """

    def __init__(self, root: Path, *, fsync: bool = True) -> None:
        self._root = root
        self._temporary = root / TEMPORARY
        self._fsync = fsync
        self._cleared = False
        self._folders: set[str] = set()  # that are there for sure, down to the disk; they are never removed
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")

    async def put(self, key: str, data: bytes) -> None:
        """Stores the file."""
        await self._run(lambda: self._put(f"{self._root}/{checked(key)}", data))

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Reads a part of the file."""
        return await self._run(lambda: self._read(checked(key), offset, length))

    async def delete(self, key: str) -> None:
        """Removes the file."""
        await self._run(lambda: (self._root / checked(key)).unlink(missing_ok=True))

    async def ping(self) -> None:
        """Makes the folder if need be and checks that it can be written to."""
        await self._run(self._check)

    async def close(self) -> None:
        """Waits for running calls."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        with disk_errors():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _check(self) -> None:
        self._temporary.mkdir(parents=True, exist_ok=True)
        if not os.access(self._temporary, os.W_OK):
            raise PermissionError(f"{self._root} cannot be written to")
        if not self._cleared:
            self._cleared = True
            self._clear_leftovers()

    def _clear_leftovers(self) -> None:
        """Temporary files of puts that a kill cut short; young ones may belong to another process."""
        for path in self._temporary.iterdir():
            if path.stat().st_mtime < time.time() - LEFTOVER_S:
                path.unlink(missing_ok=True)

    def _put(self, path: str, data: bytes) -> None:
        """As few calls as can be: each one gives the interpreter's lock up and must win it back."""
        temporary = f"{self._temporary}/{uuid4().hex}"
        folder = os.path.dirname(path)
        try:
            self._make_folder(folder)
            descriptor = self._create(temporary)
            try:
                _write_all(descriptor, data)
                if self._fsync:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, path)
            self._sync(folder)
        except OSError:
            self._folders.discard(folder)
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def _make_folder(self, name: str) -> None:
        if name in self._folders:
            return
        folder = Path(name)
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
        self._sync_new_folders(folder)
        self._folders.add(name)

    def _create(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o640)
        except FileNotFoundError:
            self._temporary.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o640)

    def _read(self, key: str, offset: int, length: int) -> bytes:
        try:
            with open(self._root / key, "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, offset)
        except FileNotFoundError as error:
            raise ObjectMissing(key) from error

    def _sync_new_folders(self, folder: Path) -> None:
        """Folders are entries of their parents: those must be synced too before a file in them is safe."""
        while folder != self._root:
            folder = folder.parent
            self._sync(folder)

    def _sync(self, folder: str | Path) -> None:
        if not self._fsync:
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Inside it, an OSError (full, read-only, gone) becomes an ObjectStoreError."""
    try:
        yield
    except OSError as error:
        raise ObjectStoreError(f"the object folder failed: {error.strerror or type(error).__name__}") from error


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
