"""Assets: what they are, the states they go through, and who may move them.

QUARANTINED ──▶ PUBLISHED ──▶ TAKEN_DOWN
     │              ▲             │
     ▼              └── restore ──┤        any state ──▶ PURGED (unless held)
  BLOCKED ─────────────────────────
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mesh.errors import Aborted, FailedPrecondition, NotFound


class State(StrEnum):
    """Where an asset stands."""

    QUARANTINED = "QUARANTINED"
    PUBLISHED = "PUBLISHED"
    BLOCKED = "BLOCKED"
    TAKEN_DOWN = "TAKEN_DOWN"
    PURGED = "PURGED"


class Withdrawal(StrEnum):
    """What took a TAKEN_DOWN asset out of service: itself being withdrawn, or a takedown of its content."""

    NONE = ""
    ASSET = "ASSET"
    CONTENT = "CONTENT"


class Kind(StrEnum):
    """Which side of a job an asset stands on."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


MOVES: Mapping[State, frozenset[State]] = {
    State.QUARANTINED: frozenset({State.PUBLISHED, State.BLOCKED, State.PURGED}),
    State.PUBLISHED: frozenset({State.TAKEN_DOWN, State.PURGED}),
    State.BLOCKED: frozenset({State.PURGED}),
    State.TAKEN_DOWN: frozenset({State.PURGED}),
    State.PURGED: frozenset(),
}

FORMATS: Mapping[str, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
}
"""The formats that are stored and served, with their media types."""


@dataclass(frozen=True)
class Provenance:
    """How an asset was made; empty strings and None where that is not known."""

    job_id: str = ""
    attempt_id: str = ""
    index: int = 0
    provider: str = ""
    model: str = ""
    model_version: str = ""
    provider_request_id: str = ""
    prompt_hash: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    source_asset_id: str = ""


@dataclass(frozen=True)
class Content:
    """Stored bytes and what they show. `object_key` is where they lie."""

    sha256: str
    object_key: str
    width: int
    height: int
    format: str
    size_bytes: int


@dataclass(frozen=True)
class Asset:
    """One row. Times are microseconds since 1970-01-01 UTC; `version` grows with every change."""

    asset_id: str
    tenant: str
    kind: Kind
    content: Content
    provenance: Provenance = field(default_factory=Provenance)
    state: State = State.QUARANTINED
    verdict_id: str = ""
    epoch: int = 0
    hold: bool = False
    withdrawn: Withdrawal = Withdrawal.NONE
    version: int = 1
    create_us: int = 0
    update_us: int = 0
    publish_us: int | None = None


@dataclass(frozen=True)
class NewAsset:
    """A row that is about to be made."""

    asset_id: str
    tenant: str
    kind: Kind
    provenance: Provenance
    epoch: int = 0


@dataclass(frozen=True)
class Put:
    """What a put says of the bytes that follow. An empty `asset_id` asks for a new one."""

    tenant: str
    kind: Kind
    asset_id: str = ""
    media_type: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    epoch: int = 0


@dataclass(frozen=True)
class Piece:
    """One chunk of a put, as it came."""

    index: int
    offset: int
    data: bytes
    last: bool
    sha256: str


@dataclass(frozen=True)
class Filter:
    """Which assets to list; None and empty strings mean any. Times in microseconds, from included, until excluded."""

    tenant: str
    state: State | None = None
    kind: Kind | None = None
    job_id: str = ""
    from_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True)
class Decision:
    """A caller's wish to publish or block an asset under a verdict, and the epoch of its lease.

    seal: moderation's, on a verdict that allows; empty where the caller has none.
    """

    asset_id: str
    verdict_id: str
    epoch: int = 0
    seal: str = field(default="", repr=False)


def publish(asset: Asset, decision: Decision, content_blocked: bool) -> Asset:
    """The asset let out; the same asset when this verdict did so before."""
    if asset.state is State.PUBLISHED and asset.verdict_id == decision.verdict_id:
        return asset
    _may_decide(asset, decision, State.PUBLISHED)
    if content_blocked:
        raise FailedPrecondition("the content's hash is blocked", reason="CONTENT_BLOCKED")
    return replace(asset, state=State.PUBLISHED, verdict_id=decision.verdict_id)


def block(asset: Asset, decision: Decision) -> Asset:
    """The asset refused; the same asset when this verdict did so before."""
    if asset.state is State.BLOCKED and asset.verdict_id == decision.verdict_id:
        return asset
    _may_decide(asset, decision, State.BLOCKED)
    return replace(asset, state=State.BLOCKED, verdict_id=decision.verdict_id)


def withdraw(asset: Asset, by: Withdrawal) -> Asset:
    """The asset taken out of service; the same asset when it is not servable anyway.

    One that a takedown withdrew remembers when it is withdrawn itself too, so that undoing the takedown leaves it.
    """
    if asset.state is State.TAKEN_DOWN and by is Withdrawal.ASSET:
        return replace(asset, withdrawn=by)
    if asset.state is not State.PUBLISHED:
        return asset
    return replace(asset, state=State.TAKEN_DOWN, withdrawn=by)


def restore(asset: Asset, verdict_id: str) -> Asset:
    """A withdrawn or blocked asset let out again, under `verdict_id` or its own verdict."""
    if asset.state not in (State.TAKEN_DOWN, State.BLOCKED):
        return asset
    verdict_id = verdict_id or asset.verdict_id
    return replace(asset, state=State.PUBLISHED, verdict_id=verdict_id, withdrawn=Withdrawal.NONE)


def purge(asset: Asset) -> Asset:
    """The tombstone of a deleted asset; the same asset when it is one already."""
    if asset.state is State.PURGED:
        return asset
    if asset.hold:
        raise FailedPrecondition(f"asset {asset.asset_id} is under a legal hold")
    return replace(asset, state=State.PURGED)


def hold(asset: Asset, held: bool) -> Asset:
    """The asset with its legal hold set or lifted."""
    if asset.state is State.PURGED:
        raise FailedPrecondition(f"asset {asset.asset_id} is PURGED")
    return replace(asset, hold=held)


def readable(asset: Asset, *, published_only: bool) -> Asset:
    """The asset, if its bytes may be read."""
    if asset.state is State.PUBLISHED or not (published_only or asset.state is State.PURGED):
        return asset
    raise FailedPrecondition(
        f"asset {asset.asset_id} is {asset.state}, not PUBLISHED",
        reason="NOT_PUBLISHED",
        metadata={"asset_id": asset.asset_id, "state": asset.state},
    )


def not_found(asset_id: str) -> NotFound:
    """What is said of an asset that does not exist or belongs to another tenant."""
    return NotFound(f"asset {asset_id} does not exist", reason="ASSET_NOT_FOUND")


def _may_decide(asset: Asset, decision: Decision, goal: State) -> None:
    if goal not in MOVES[asset.state]:
        raise FailedPrecondition(
            f"asset {asset.asset_id} is {asset.state}; only a QUARANTINED asset becomes {goal}",
            metadata={"state": asset.state},
        )
    if decision.epoch < asset.epoch:
        raise Aborted(f"asset {asset.asset_id} belongs to a later lease", reason="STALE_EPOCH")
