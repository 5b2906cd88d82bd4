"""What a worker has in its hands: its settings and parts, and its hold on each job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from imagemesh.router.v1 import job_pb2

from services.router.breaker import Clock
from services.router.leases import Beat, ClaimedJob
from services.router.pipeline import Pipeline
from services.router.queue_store import QueueStore
from services.router.runs import Run, RunSource


@dataclass(frozen=True)
class WorkerConfig:
    """How a worker works."""

    owner: str
    """Unique per process start."""
    slots: int = 128
    """Jobs at once. A job holds its slot while its provider draws, so this bounds how many are drawn at once."""
    batch_slots: int = 64
    """Of these, the most that BATCH jobs may take."""
    claim_most: int = 32
    """Jobs that are claimed at once, so that workers who look at the same time share what is there."""
    lease_s: float = 15.0
    """How long a claim lasts without a heartbeat; how long a dead worker's jobs wait."""
    poll_s: float = 1.0
    """How often to look for work without a signal."""
    gather_s: float = 0.01
    """While busy, how long to gather freed slots before claiming for them all at once."""
    progress_s: float = 0.1
    """Least time between two progress signals of a job."""
    drain_s: float = 20.0
    """After the stop signal: how long orders under way may take."""


@dataclass(frozen=True)
class Parts:
    """What a worker stands on. `tell(subject, payload)` sends a signal and returns at once."""

    queue: QueueStore
    pipeline: Pipeline
    runs: RunSource
    clock: Clock
    tell: Callable[[str, bytes], None]
    called_back: Callable[[str], None] = lambda _attempt_id: None
    """A vendor has called back about an attempt."""


class Hold:
    """The worker's hold on one job: its task, its lease, why it was told to stop."""

    def __init__(self, job: ClaimedJob, config: WorkerConfig, parts: Parts) -> None:
        self.job = job
        self.version = job.version
        self.run: Run | None = None
        self.task: asyncio.Task[None] | None = None
        self.leased_until = parts.clock() + config.lease_s
        self.cancel_requested = job.cancel_requested
        self.lost = False
        self.stopping = False
        self.steps = (0, 0)
        self._config = config
        self._parts = parts
        self._told_at = 0.0

    @property
    def beat(self) -> Beat:
        """The job's sign of life."""
        return Beat(self.job.lease, self.run.step if self.run else self.job.step, self.steps)

    def lease_left(self) -> float:
        """See `Grip`."""
        return self.leased_until - self._parts.clock()

    def draining(self) -> bool:
        """See `Grip`."""
        return self.stopping

    def progressed(self, step: int, steps: int) -> None:
        """See `Grip`."""
        self.steps = (step, steps)
        now = self._parts.clock()
        if step < steps and now - self._told_at < self._config.progress_s:
            return
        self._told_at = now
        payload = job_pb2.JobProgress(step=step, steps=steps).SerializeToString()
        self._parts.tell(f"job-progress.{self.job.lease.job_id}", payload)

    def interrupt(self) -> None:
        """Stop the task where it waits."""
        if self.task is not None:
            self.task.cancel()
