"""Following jobs: signals say that a row changed, the row says what, and a poll finds what signals missed.

The signal that a job was begun may wait a moment: many jobs are then read at once, and one that ended meanwhile once.

One hub per process serves every stream. It holds one wildcard subscription each for versions and progress, one batched
read for all jobs that changed, and one batched poll. A watcher keeps only the newest state and the newest progress, so
a slow reader costs nothing and skips to the present.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from imagemesh.router.v1 import job_pb2
from sqlalchemy.exc import SQLAlchemyError

from mesh.errors import MeshError, ResourceExhausted, Unavailable
from mesh.events import Bus, Subscription
from mesh.process import Background
from mesh.telemetry import logger
from services.router.job_store import Found, JobStore
from services.router.signals import BEGUN

VERSION_SIGNAL = "job."
PROGRESS_SIGNAL = "job-progress."
GATHER_BEGUN_S = 0.05
MOST_AT_ONCE = 500
DATABASE_FAULTS = (Unavailable, SQLAlchemyError)
"""None of them may end the loops: the next poll tries again."""

log = logger(__name__)
Update = Found | job_pb2.JobProgress


@dataclass(frozen=True)
class WatchConfig:
    """poll_s: the floor below signals. limit: streams at once in this process."""

    poll_s: float = 2.0
    limit: int = 10_000


class Watcher:
    """One stream's view of one job: at most one state and one progress wait to be taken."""

    def __init__(self, job_id: str, version: int) -> None:
        self.job_id = job_id
        self.version = version
        self._state: Found | None = None
        self._progress: job_pb2.JobProgress | None = None
        self._shown = (0, 0)
        self._closing: MeshError | None = None
        self._changed = asyncio.Event()

    def offer(self, found: Found) -> None:
        """A read of the row; only a higher version than the last one counts."""
        if found[0].version > self.version:
            self.version = found[0].version
            self._state = found
            self._changed.set()

    def offer_progress(self, progress: job_pb2.JobProgress) -> None:
        """Progress replaces progress that was not taken yet; the same step twice is dropped."""
        step = (progress.index, progress.step)
        if step != self._shown or progress.preview:
            self._shown = step
            self._progress = progress
            self._changed.set()

    def close(self, reason: MeshError) -> None:
        """Ends the stream with this error."""
        self._closing = reason
        self._changed.set()

    async def updates(self) -> AsyncIterator[Update]:
        """States and progress as they come, until the job has ended."""
        while True:
            if self._closing is None:
                await self._changed.wait()
            self._changed.clear()
            state, self._state = self._state, None
            progress, self._progress = self._progress, None
            if state is not None:
                yield state
                if state[0].ended:
                    return
            elif progress is not None:
                yield progress
            elif self._closing is not None:
                raise self._closing


class Watching:
    """The hub. `start` and `stop` once each; `stop` ends every stream with UNAVAILABLE (DRAINING)."""

    def __init__(self, store: JobStore, bus: Bus, config: WatchConfig) -> None:
        self._store = store
        self._bus = bus
        self._config = config
        self._watchers: dict[str, set[Watcher]] = {}
        self._count = 0
        self._stale: set[str] = set()
        self._begun: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._reading = Background("watch-read", self._read_changed)
        self._polling = Background("watch-poll", self._poll)
        self._subscriptions: list[Subscription] = []
        self._stopped = False

    async def start(self) -> None:
        """Begins to listen and to poll."""
        self._subscriptions = [
            await self._bus.on_signal(VERSION_SIGNAL + "*", self._on_version),
            await self._bus.on_signal(PROGRESS_SIGNAL + "*", self._on_progress),
        ]
        self._reading.start()
        self._polling.start()

    async def stop(self) -> None:
        """Ends every stream and stops listening."""
        self._stopped = True
        for watcher in self._all():
            watcher.close(_draining())
        for subscription in self._subscriptions:
            await subscription.close()
        await self._polling.stop()
        await self._reading.stop()

    @contextmanager
    def watch(self, job_id: str, version: int = 0) -> Iterator[Watcher]:
        """A watcher that hears of everything after `version` from now on; read the row after this, not before.

        Raises:
            ResourceExhausted: RATE_LIMITED, this process serves as many streams as it may.
            Unavailable: DRAINING, it is shutting down.
        """
        if self._stopped:
            raise _draining()
        if self._count >= self._config.limit:
            raise ResourceExhausted("too many jobs are watched here; try again", retry_after=1.0)
        watcher = Watcher(job_id, version)
        self._count += 1
        self._watchers.setdefault(job_id, set()).add(watcher)
        try:
            yield watcher
        finally:
            self._count -= 1
            self._watchers[job_id].discard(watcher)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def refresh(self, job_id: str) -> None:
        """Reads the job soon, if anybody watches it."""
        if job_id in self._watchers:
            self._stale.add(job_id)
            self._wake.set()

    @property
    def count(self) -> int:
        """Streams now."""
        return self._count

    def _all(self) -> list[Watcher]:
        return [watcher for watchers in self._watchers.values() for watcher in watchers]

    async def _on_version(self, subject: str, payload: bytes) -> None:
        job_id = subject.removeprefix(VERSION_SIGNAL)
        digits = payload.removesuffix(BEGUN)
        version = int(digits) if digits.isdigit() else None
        if version is not None and not self._behind(job_id, version):
            return
        if version is not None and payload.endswith(BEGUN):
            self._gather(job_id, version)
        else:
            self.refresh(job_id)

    def _behind(self, job_id: str, version: int) -> bool:
        return any(watcher.version < version for watcher in self._watchers.get(job_id, ()))

    def _gather(self, job_id: str, version: int) -> None:
        """Reads the job with others that were begun about now."""
        if not self._begun:
            asyncio.get_running_loop().call_later(GATHER_BEGUN_S, self._refresh_begun)
        self._begun[job_id] = version

    def _refresh_begun(self) -> None:
        begun, self._begun = self._begun, {}
        for job_id, version in begun.items():
            if self._behind(job_id, version):
                self.refresh(job_id)

    async def _on_progress(self, subject: str, payload: bytes) -> None:
        watchers = self._watchers.get(subject.removeprefix(PROGRESS_SIGNAL), ())
        if not watchers:
            return
        try:
            progress = job_pb2.JobProgress.FromString(payload)
        except DecodeError:
            log.warning("a progress signal is no JobProgress", subject=subject)
            return
        for watcher in watchers:
            watcher.offer_progress(progress)

    async def _read_changed(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._stale = list(self._stale), set()
            for ids in _chunks(changed):
                await self._deliver(ids)

    async def _deliver(self, ids: Sequence[str]) -> None:
        try:
            rows = await self._store.many(ids)
        except DATABASE_FAULTS as error:
            log.warning("watched jobs cannot be read; the poll tries again", reason=str(error))
            return
        for found in rows:
            for watcher in self._watchers.get(found[0].job_id, ()):
                watcher.offer(found)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._config.poll_s)
            for ids in _chunks(list(self._watchers)):
                await self._look(ids)

    async def _look(self, ids: Sequence[str]) -> None:
        """Marks the jobs that moved on, and tells the progress that heartbeats stored."""
        try:
            versions = await self._store.versions(ids)
        except DATABASE_FAULTS as error:
            log.warning("watched jobs cannot be polled", reason=str(error))
            return
        for job_id, (version, step, steps) in versions.items():
            for watcher in self._watchers.get(job_id, ()):
                if watcher.version < version:
                    self.refresh(job_id)
                if not self._bus.connected and step:
                    watcher.offer_progress(job_pb2.JobProgress(step=step, steps=steps))


def _draining() -> Unavailable:
    return Unavailable("the service is shutting down; watch again", reason="DRAINING", retry_after=1.0)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), MOST_AT_ONCE):
        yield ids[start : start + MOST_AT_ONCE]
