"""What moderation can be told from outside, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from mesh.config import Settings
from mesh.verdict_seal import Sealer

ENCODER = Path(__file__).parents[2] / ".cache" / "encoder"  # where tools/setup.sh puts it
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
    names: Path | None = Field(None, description="Folder of the operator's own lists of names, one `*.txt` each.")
    blocklist: Path | None = Field(None, description="File of blocked pictures, added when the service starts.")
    encoder: str = Field(
        str(ENCODER), description="Folder of the text classifier's encoder; empty runs without that classifier."
    )
    picture_model: bool = Field(True, description="Whether the built-in classifier looks for sexual pictures.")
    ocr: bool = Field(False, description="Whether text in pictures is read and judged; needs the extra moderation-ocr.")
    classifiers: Path | None = Field(None, description="File of the classifiers that are plugged in; see docs.")
    images_working: int = Field(8, ge=1, le=256, description="Pictures held in memory at the same time.")
    verdict_key: SecretStr = Field(
        SecretStr(""), description="Key for seals on verdicts, in hex, shared with storage; empty makes no seals."
    )
    audit_checkpoints: str = Field(
        "", description="Where the audit's checkpoints are copied to: file:///directory or s3://bucket/prefix."
    )
    s3_endpoint: str = Field("", validate_default=True, description="http(s)://host:port of the S3 server.")
    s3_access_key: str = Field("", validate_default=True, description="Access key of the S3 server.")
    s3_secret_key: SecretStr = Field(SecretStr(""), validate_default=True, description="Secret key of the S3 server.")
    s3_region: str = Field("us-east-1", description="Region that requests to the S3 server are signed for.")

    @field_validator("verdict_key")
    @classmethod
    def _key_parses(cls, value: SecretStr) -> SecretStr:
        Sealer.parse(value.get_secret_value())
        return value

    @field_validator("audit_checkpoints")
    @classmethod
    def _known_store(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not ((parts.scheme == "file" and parts.path) or (parts.scheme == "s3" and parts.netloc)):
            raise ValueError("must be file:///directory or s3://bucket/prefix")
        return value

    @field_validator("s3_endpoint", "s3_access_key", "s3_secret_key")
    @classmethod
    def _needed_for_s3(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not text and urlsplit(info.data.get("audit_checkpoints", "")).scheme == "s3":
            raise ValueError("must be set when checkpoints lie in s3://")
        return value

    def limits(self) -> Limits:
        """The bounds that the environment may change."""
        return Limits(images_working=self.images_working)
