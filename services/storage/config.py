"""What storage can be told from outside, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from mesh.config import Settings
from mesh.verdict_seal import Sealer
from services.storage.signing import KeyRing

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of one process.

    chunk: most bytes of one message of a stream.
    original: most bytes of one original.
    receiving: most bytes of unfinished puts held in memory, all calls together.
    idle: seconds that a put may wait for its next message.
    """

    chunk: int = MEBIBYTE
    original: int = 64 * MEBIBYTE
    receiving: int = 512 * MEBIBYTE
    idle: float = 30.0


@dataclass(frozen=True)
class RenditionLimits:
    """Bounds on renditions.

    threads: pictures transcoded at the same time.
    waiting: pictures that may wait for a thread; more are refused with RESOURCE_EXHAUSTED.
    kept: renditions kept for one original; the oldest goes when there are more.
    """

    threads: int = 2
    waiting: int = 64
    kept: int = 64


@dataclass(frozen=True)
class S3Config:
    """An S3-compatible server. `endpoint` is `http(s)://host:port`; `threads` bounds parallel requests."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: SecretStr
    region: str = "us-east-1"
    threads: int = 16
    timeout: float = 10.0


class StorageSettings(Settings):
    """Environment of the storage process, each variable with the prefix IMAGEMESH_."""

    objects: str = Field(description="Where the bytes lie: file:///directory or s3://bucket.")
    objects_fsync: bool = Field(True, description="Sync files to disk before a put is acknowledged (file:// only).")
    objects_recent_bytes: int = Field(64 * MEBIBYTE, ge=0, description="Bytes of new objects kept in memory; 0: none.")
    s3_endpoint: str = Field("", validate_default=True, description="http(s)://host:port of the S3 server.")
    s3_access_key: str = Field("", validate_default=True, description="Access key of the S3 server.")
    s3_secret_key: SecretStr = Field(SecretStr(""), validate_default=True, description="Secret key of the S3 server.")
    s3_region: str = Field("us-east-1", description="Region that requests to the S3 server are signed for.")
    http_port: int = Field(0, ge=0, le=65535, description="Port that serves signed addresses; 0 takes any free one.")
    public_url: str = Field("", description="What signed addresses begin with; default http://<host>:<http_port>.")
    signing_keys: SecretStr = Field(description="`kid:hex,kid:hex`; the first signs, all verify; 32 bytes or more.")
    moderation_target: str = Field("127.0.0.1:7402", description="Moderation's gRPC address, for verdicts.")
    verdict_key: SecretStr = Field(
        SecretStr(""), description="Moderation's key for seals on verdicts, in hex; empty asks for each verdict."
    )
    max_age: int = Field(3600, ge=0, description="Most seconds a cache may keep a served picture.")
    rendition_threads: int = Field(2, ge=1, le=64, description="Pictures transcoded at the same time.")

    @field_validator("signing_keys")
    @classmethod
    def _keys_parse(cls, value: SecretStr) -> SecretStr:
        KeyRing.parse(value.get_secret_value())
        return value

    @field_validator("verdict_key")
    @classmethod
    def _key_parses(cls, value: SecretStr) -> SecretStr:
        Sealer.parse(value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @field_validator("objects")
    @classmethod
    def _known_store(cls, value: str) -> str:
        parts = urlsplit(value)
        if not ((parts.scheme == "file" and parts.path) or (parts.scheme == "s3" and parts.netloc)):
            raise ValueError("must be file:///directory or s3://bucket")
        return value

    @field_validator("s3_endpoint", "s3_access_key", "s3_secret_key")
    @classmethod
    def _needed_for_s3(cls, value: str | SecretStr, info: ValidationInfo) -> str | SecretStr:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not text and urlsplit(info.data.get("objects", "")).scheme == "s3":
            raise ValueError("must be set when objects lie in s3://")
        return value
