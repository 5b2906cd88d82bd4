"""The pictures of a job while it is worked on, and how they are kept: as a `router.v1.Job` with only `images` set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from imagemesh.router.v1 import job_pb2

from mesh.errors import FailedPrecondition, MeshError
from mesh.status import from_status, to_rpc_status
from services.router.jobs import BlockedBy, ImageState, PictureOutcome
from services.router.peers.moderation import Decision, Verdict, read_verdict
from services.router.peers.storage import StoredAsset

KEPT_BACK = "the provider's filter kept it back"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a job. Until somebody has drawn it there is no asset."""

    index: int
    state: ImageState = ImageState.PENDING
    asset: StoredAsset | None = None
    seed: int | None = None
    revised_prompt: str = ""
    verdict: Verdict | None = None
    error: MeshError | None = None
    """Why there is no picture: FAILED, or BLOCKED by a provider."""
    attempt_id: str = ""
    """The order that brought it; not kept with the picture, for the attempt keeps it."""

    @property
    def publishable(self) -> bool:
        """Stored, judged and allowed, and not let out yet."""
        judged = self.verdict is not None and self.verdict.decision.lets_pass
        return self.state is ImageState.QUARANTINED and judged

    @property
    def outcome(self) -> PictureOutcome:
        """The picture as the rule for the job's end sees it."""
        refused_by = BlockedBy.PROVIDER if self.asset is None else BlockedBy.IMAGE
        return PictureOutcome(self.state, refused_by)

    def judged(self, verdict: Verdict) -> Picture:
        """The picture with what moderation said of it."""
        state = ImageState.QUARANTINED if verdict.decision is not Decision.BLOCK else ImageState.BLOCKED
        asset = None if self.asset is None else replace(self.asset, data=b"")
        return replace(self, verdict=verdict, state=state, asset=asset)

    def ended(self, state: ImageState, error: MeshError | None = None) -> Picture:
        """The picture in its final state."""
        return replace(self, state=state, error=error)


def kept_back(index: int) -> Picture:
    """A picture that was ordered, and that the provider's filter took out of what it delivered."""
    return Picture(index).ended(ImageState.BLOCKED, FailedPrecondition(KEPT_BACK, reason="PROVIDER_REFUSED"))


def dump(pictures: Iterable[Picture]) -> bytes:
    """The pictures as they are kept, in the order of their index."""
    job = job_pb2.Job()
    for picture in sorted(pictures, key=lambda picture: picture.index):
        job.images.append(_message(picture))
    return job.SerializeToString()


def load(data: bytes, attempt_id: str = "") -> dict[int, Picture]:
    """The pictures that were kept, by index."""
    return {image.index: _picture(image, attempt_id) for image in job_pb2.Job.FromString(data).images}


def from_order(picture: Picture, attempt_id: str) -> Picture:
    """The picture, with the order that brought it."""
    return replace(picture, attempt_id=attempt_id)


def _message(picture: Picture) -> job_pb2.JobImage:
    message = job_pb2.JobImage(
        index=picture.index,
        state=job_pb2.ImageState.Value(f"IMAGE_STATE_{picture.state}"),
        seed=picture.seed,
        revised_prompt=picture.revised_prompt,
    )
    asset = picture.asset
    if asset is not None:
        message.asset_id, message.sha256, message.format = asset.asset_id, asset.sha256, asset.format
        message.width, message.height, message.bytes = asset.width, asset.height, asset.size_bytes
    if picture.verdict is not None:
        message.verdict.ParseFromString(picture.verdict.message)
    if picture.error is not None:
        message.error.CopyFrom(to_rpc_status(picture.error))
    return message


def _picture(image: job_pb2.JobImage, attempt_id: str) -> Picture:
    asset = StoredAsset(
        image.asset_id, "QUARANTINED", image.sha256, image.width, image.height, image.format, image.bytes
    )
    return Picture(
        index=image.index,
        state=ImageState(job_pb2.ImageState.Name(image.state).removeprefix("IMAGE_STATE_")),
        asset=asset if image.asset_id else None,
        seed=image.seed if image.HasField("seed") else None,
        revised_prompt=image.revised_prompt,
        verdict=read_verdict(image.verdict) if image.HasField("verdict") else None,
        error=from_status(image.error) if image.HasField("error") else None,
        attempt_id=attempt_id,
    )


def by_attempt(pictures: Mapping[int, Picture]) -> dict[str, int]:
    """How many published pictures each order brought."""
    counted: dict[str, int] = {}
    for picture in pictures.values():
        if picture.state is ImageState.PUBLISHED:
            counted[picture.attempt_id] = counted.get(picture.attempt_id, 0) + 1
    return counted
