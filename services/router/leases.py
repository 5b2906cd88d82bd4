"""What a worker holds and says while it works on a job: leases, parking, endings. Pure values.

A lease is a claim on one job for a while. Its epoch fences it: a write under an older epoch than the job's raises
`LeaseLost` and changes nothing. Lengths are seconds; instants are the database's clock in microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.errors import Aborted, MeshError

UNFINISHED = ("QUEUED", "RUNNING")
FINISHED = ("SUCCEEDED", "FAILED", "BLOCKED", "CANCELED")

# The deadline stands still while a job waits for one of these.
DEADLINE_PAUSED_BY = ("REVIEW", "MODERATION")


class LeaseLost(Aborted):
    """Another worker owns the job now, or it has ended. The task must stop and write nothing more."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write about one job."""

    job_id: str
    epoch: int
    owner: str


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """How many jobs a worker takes, and for how long.

    owner: unique per worker process start. lease_s: may be negative in tests (expired at once).
    max_losses: lease losses in one step after which a job ends FAILED, WORKER_LOST.
    """

    owner: str
    lane: str
    limit: int
    lease_s: float = 15.0
    max_losses: int = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One order at one provider, as stored.

    state: RUNNING SUCCEEDED FAILED UNKNOWN CANCELED. indices: the pictures it owes. account: the provider's account in
    the catalog. dropped: fields of the spec that it left out. images: what was stored of it, serialised as
    `router.v1.Job` with only `images`. error: serialised google.rpc.Status. worst_micros: its cost if everything goes
    wrong.
    """

    attempt_id: str
    job_id: str
    ordinal: int
    provider: str
    model: str
    model_version: str
    state: str
    replay_safe: bool
    provider_request_id: str
    indices: tuple[int, ...]
    dropped: tuple[str, ...]
    account: str
    images: bytes
    error: bytes
    error_reason: str
    worst_micros: int
    cost_micros: int
    epoch: int
    start_time: int
    end_time: int | None


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job and the lease on it: everything the pipeline needs to start or to resume.

    spec, options, images: serialised messages (see `tables`). committed: the point of no return is passed and `images`
    is exactly what must be published. taken_from: the worker whose lease ran out, empty after a clean hand-over.
    waiting_for: why the job was parked, kept until `resume`. run_traceparent: the run before, to link to.
    """

    lease: Lease
    tenant: str
    key_id: str
    user: str
    lane: str
    version: int
    model: str
    spec: bytes
    options: bytes
    seed_drawn: bool
    has_inputs: bool
    taken_from: str
    step: str
    step_losses: int
    waiting_for: str
    cancel_requested: bool
    committed: bool
    deadline: int
    images: bytes
    quoted_micros: int
    reserved_micros: int
    create_time: int
    start_time: int
    traceparent: str
    tracestate: str
    run_traceparent: str
    claim_time: int
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """One job's sign of life. `step` is where it is; a new step resets its count of lease losses.

    progress: (step, steps) of the drawing, (0, 0) when unknown.
    """

    lease: Lease
    step: str = ""
    progress: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The answer to a heartbeat: ids of jobs to cancel, and of jobs whose lease is lost."""

    cancel: frozenset[str]
    lost: frozenset[str]


@dataclass(frozen=True, slots=True)
class Parking:
    """Why a job waits without a lease and when it looks again, at most 60 seconds ahead.

    waiting_for: MODERATION REVIEW STORAGE PROVIDER RETRY. run_traceparent: span of the run that ends here.
    """

    waiting_for: str
    wake_in_s: float
    run_traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends. Written in one transaction with the settlement and the event.

    images: serialised `Job` with only `images`; None keeps what is stored. cost_micros: the debit asked for; never more
    than the reservation is taken. model, provider, image_count: what drew and how many, for the usage counters.
    cache_key: stores the pictures for later jobs when SUCCEEDED; empty stores nothing. verdict_id: the deciding one,
    when BLOCKED.
    """

    state: str
    images: bytes | None = None
    cost_micros: int = 0
    failure: MeshError | None = None
    blocked_by: str = ""
    cache_hit: bool = False
    model: str = ""
    provider: str = ""
    image_count: int = 0
    cache_key: str = ""
    verdict_id: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """What the end of a job wrote."""

    job_id: str
    tenant: str
    version: int
    debit_micros: int


QueueDepths = Mapping[str, int]
