"""What moderation can be told from outside, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from mesh.config import Settings

DEFAULT_POLICY = Path(__file__).parent / "policies" / "default.yaml"


@dataclass(frozen=True)
class Limits:
    """Bounds of one process.

    text_threads: long texts normalised at the same time.
    images_working: pictures held in memory at the same time, of at most 64 MiB and 40 megapixels each.
    images_waiting: calls that may wait for one of them; more are refused with UNAVAILABLE.
    """

    text_threads: int = 2
    images_working: int = 8
    images_waiting: int = 256


class ModerationSettings(Settings):
    """Environment of the moderation process, each variable with the prefix IMAGEMESH_."""

    storage_target: str = Field("127.0.0.1:7401", description="Storage's gRPC address, for the bytes of assets.")
    policy: Path = Field(DEFAULT_POLICY, description="The default policy's file; `tenants/*.yaml` lie beside it.")
    blocklist: Path | None = Field(None, description="File of blocked pictures, added when the service starts.")
    images_working: int = Field(8, ge=1, le=256, description="Pictures held in memory at the same time.")

    def limits(self) -> Limits:
        """The bounds that the environment may change."""
        return Limits(images_working=self.images_working)
