"""What the job store takes and gives: a job to be stored, a stored one, filters. Pure values.

Bytes are serialised messages of `imagemesh.router.v1` (see `tables`); instants are the database's clock, microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.router.leases import FINISHED


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose job it is."""

    tenant: str
    key_id: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Repeatable:
    """The caller's request id and the hash of the request's body, for telling a repeat from a reuse."""

    request_id: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job about to be stored.

    spec and options are as they shall be stored: no inline bytes, seed filled in. inputs: the inline bytes by their
    path in the spec. deadline_s: from creation. quoted_micros: the worst case, which is reserved. event: see
    `job_events.queued_message`. repeatable: None when the caller gave no request id. traceparent, tracestate: of the
    call that creates it.
    """

    job_id: str
    identity: Identity
    lane: str
    model: str
    spec: bytes
    options: bytes
    seed_drawn: bool
    deadline_s: float
    quoted_micros: int
    event: bytes
    repeatable: Repeatable | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    parent_job_id: str = ""
    traceparent: str = ""
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """What the store made of a NewJob. repeated: the request id came before; `job_id` is then the earlier job."""

    job_id: str
    create_time: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A stored job, without its attempts."""

    job_id: str
    tenant: str
    key_id: str
    user: str
    state: str
    version: int
    lane: str
    model: str
    parent_job_id: str
    spec: bytes
    options: bytes
    seed_drawn: bool
    has_inputs: bool
    turn: int
    waiting_for: str
    cancel_requested: bool
    committed: bool
    images: bytes
    error: bytes
    error_reason: str
    blocked_by: str
    cache_hit: bool
    progress_step: int
    progress_steps: int
    quoted_micros: int
    reserved_micros: int
    cost_micros: int
    create_time: int
    start_time: int | None
    end_time: int | None
    traceparent: str

    @property
    def ended(self) -> bool:
        """True once nothing changes any more."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs of a tenant to list; empty fields match all. Times are [created_from, created_until)."""

    tenant: str
    states: tuple[str, ...] = ()
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    created_from: int = 0
    created_until: int = 0


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a cancel did. ended: it was QUEUED and is CANCELED now; else the flag is set for its worker."""

    ended: bool
    version: int
