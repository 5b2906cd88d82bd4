"""One worker's run of one job: what it knows so far. The stored truth is the job row and its attempts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from google.rpc import status_pb2
from imagemesh.router.v1 import job_pb2

from mesh import telemetry
from mesh.errors import MeshError
from mesh.status import from_status
from services.router import pictures as kept
from services.router.breaker import Clock
from services.router.candidates import Candidate
from services.router.choices import Choice, Delivered, Failed
from services.router.fallback import History
from services.router.jobs import AttemptState, ImageState, missing_indices
from services.router.leases import Attempt, ClaimedJob, Ending, Lease, LeaseLost
from services.router.peers.moderation import Subject
from services.router.peers.storage import Holder
from services.router.pictures import Picture
from services.router.providers.errors import ErrorKind
from services.router.specs import GenerationSpec, JobOptions
from services.router.wire_job import options_from_proto, spec_from_proto

KIND = "kind"
"""Key under which an attempt's error keeps its `ErrorKind`, in the metadata."""


class Grip(Protocol):
    """The worker's hold on a run."""

    def lease_left(self) -> float:
        """Seconds the lease lasts for sure, by this process's clock."""

    def draining(self) -> bool:
        """Whether the worker wants to stop."""

    def progressed(self, step: int, steps: int) -> None:
        """The drawing went on; told to watchers and stored with the next heartbeat."""


@dataclass(frozen=True, slots=True)
class Paid:
    """An order that was fulfilled: what it cost, and how many pictures came of it."""

    provider: str
    model: str
    cost_micros: int
    pictures: int


@dataclass
class Run:
    """See the module. `ends` and `grace_ends` are on `clock`: when orders end, and when waiting to deliver does."""

    job: ClaimedJob
    spec: GenerationSpec
    options: JobOptions
    grip: Grip
    clock: Clock
    ends: float
    grace_ends: float
    pictures: dict[int, Picture] = field(default_factory=dict)
    history: History = field(default_factory=History)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    paid: dict[str, Paid] = field(default_factory=dict)
    in_hand: Delivered | None = None
    ending: Ending | None = None
    committed: bool = False
    waiting_for: str = ""
    policy: str = ""
    """Moderation's policy and version, once the texts are judged."""
    cache_key: str = ""
    cache_hit: bool = False
    step: str = ""
    place: telemetry.TraceContext = field(default_factory=telemetry.TraceContext)
    """This run's span."""

    @property
    def lease(self) -> Lease:
        """Under which everything is written."""
        return self.job.lease

    @property
    def subject(self) -> Subject:
        """The job, for moderation."""
        return Subject(self.job.tenant, self.lease.job_id, self.job.user)

    @property
    def holder(self) -> Holder:
        """The job, for storage."""
        return Holder(self.job.tenant, self.lease.epoch)

    @property
    def missing(self) -> tuple[int, ...]:
        """Indices of pictures that nobody has drawn or given up."""
        drawn = [index for index, picture in self.pictures.items() if picture.state is not ImageState.PENDING]
        return missing_indices(self.spec.count, drawn)

    @property
    def prompt_hash(self) -> str:
        """What stands for the prompt wherever the prompt must not."""
        return hashlib.sha256(self.spec.prompt.encode()).hexdigest()

    def require_lease(self, margin: float) -> None:
        """Raises LeaseLost unless the lease lasts so many seconds more."""
        if self.grip.lease_left() < margin:
            raise LeaseLost(f"the lease on {self.lease.job_id} is about to end")


@dataclass(frozen=True)
class RunSource:
    """Makes runs of claimed jobs. `grace_s`: how long a picture that was paid for may wait to be stored and judged."""

    clock: Clock
    grace_s: float = 24 * 3600.0

    def open(self, job: ClaimedJob, grip: Grip) -> Run:
        """The run, with what earlier ones left."""
        now = self.clock()
        paid = max((a.end_time or 0 for a in job.attempts if a.state == AttemptState.SUCCEEDED), default=job.claim_time)
        run = Run(
            job=job,
            spec=spec_from_proto(job_pb2.GenerationSpec.FromString(job.spec)),
            options=options_from_proto(job_pb2.JobOptions.FromString(job.options)),
            grip=grip,
            clock=self.clock,
            ends=now + (job.deadline - job.claim_time) / 1_000_000,
            grace_ends=now + (paid - job.claim_time) / 1_000_000 + self.grace_s,
            committed=job.committed,
            waiting_for=job.waiting_for,
        )
        for attempt in job.attempts:
            recall(run, attempt)
        if job.committed:
            run.pictures = _committed(run, job.images)
            run.cache_hit = not run.paid  # nobody drew them for this job
        return run


def recall(run: Run, attempt: Attempt) -> None:
    """Take an attempt of an earlier run into account."""
    run.attempts[attempt.attempt_id] = attempt
    if attempt.state == AttemptState.SUCCEEDED:
        brought = kept.load(attempt.images, attempt.attempt_id)
        kept_back = {index: one for index, one in brought.items() if one.state is ImageState.BLOCKED}
        run.pictures.update({index: picture for index, picture in brought.items() if picture.asset is not None})
        came = len(brought) - len(kept_back)
        run.paid[attempt.attempt_id] = Paid(attempt.provider, attempt.model, attempt.cost_micros, came)
        withhold(run, attempt.provider, attempt.model, kept_back)
    elif attempt.state in (AttemptState.FAILED, AttemptState.UNKNOWN):
        run.history.add(Failed(attempt.provider, attempt.model, kind_of(attempt), _error(attempt).message))
        _rest(run, attempt)


def withhold(run: Run, provider: str, model: str, pictures: Mapping[int, Picture]) -> None:
    """Pictures of a delivery that the provider's filter kept back: a refusal, after which nobody is asked any more."""
    if pictures:
        run.pictures.update(pictures)
        run.history.add(Failed(provider, model, ErrorKind.REFUSED, kept.KEPT_BACK))


def kind_of(attempt: Attempt) -> ErrorKind:
    """The class of a stored failure; one that nobody classified has an unknown outcome."""
    name = _error(attempt).metadata.get(KIND, "")
    return ErrorKind(name) if name in ErrorKind.__members__ else ErrorKind.UNKNOWN_OUTCOME


def _rest(run: Run, attempt: Attempt) -> None:
    """The provider asked for time: what is left of it, whichever worker it was that asked."""
    wanted = _error(attempt).retry_after
    if wanted is not None and attempt.end_time is not None:
        left = wanted - (run.job.claim_time - attempt.end_time) / 1_000_000
        run.history.rest(Choice(attempt.provider, attempt.model), run.clock() + left)


def _error(attempt: Attempt) -> MeshError:
    return from_status(status_pb2.Status.FromString(attempt.error))


def _committed(run: Run, images: bytes) -> dict[int, Picture]:
    """The exact pictures of the point of no return, with the orders that brought them."""
    brought = {index: picture.attempt_id for index, picture in run.pictures.items()}
    loaded = kept.load(images)
    return {index: kept.from_order(picture, brought.get(index, "")) for index, picture in loaded.items()}
