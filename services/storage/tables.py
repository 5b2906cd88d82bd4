"""The tables that storage owns. All times are microseconds since 1970-01-01 UTC, by the database's clock."""

from __future__ import annotations

import sqlalchemy as sa

from mesh.outbox import outbox_table

METADATA = sa.MetaData()
VERSION_TABLE = "storage_schema"

ASSETS = sa.Table(
    "assets",
    METADATA,
    sa.Column("asset_id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("object_key", sa.String(256), nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("attempt_id", sa.String(64), nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("provider", sa.String(128), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("model_version", sa.String(256), nullable=False),
    sa.Column("provider_request_id", sa.String(256), nullable=False),
    sa.Column("prompt_hash", sa.String(64), nullable=False),
    sa.Column("seed", sa.BigInteger),
    sa.Column("steps", sa.Integer),
    sa.Column("guidance", sa.Float(53)),
    sa.Column("source_asset_id", sa.String(64), nullable=False),
    sa.Column("verdict_id", sa.String(64), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("hold", sa.Boolean, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("update_us", sa.BigInteger, nullable=False),
    sa.Column("publish_us", sa.BigInteger),
    sa.Column("withdrawn", sa.String(16), nullable=False, server_default=""),
    sa.Index("assets_by_time", "tenant", "create_us", "asset_id"),
    sa.Index("assets_by_job", "tenant", "job_id"),
    sa.Index("assets_by_content", "sha256", "tenant"),
)

# The bytes behind one or more assets of a tenant. The key names one stored object for ever: content that is deleted and
# stored again gets another key, so that a late deletion never hits new bytes.
ORIGINALS = sa.Table(
    "originals",
    METADATA,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("object_key", sa.String(256), nullable=False, unique=True),
)

RENDITIONS = sa.Table(
    "renditions",
    METADATA,
    sa.Column("original_key", sa.String(256), primary_key=True),
    sa.Column("spec_key", sa.String(64), primary_key=True),
    sa.Column("object_key", sa.String(256), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("format", sa.String(16), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
)

# Hashes that may not be published, in any tenant.
BLOCKED_HASHES = sa.Table(
    "blocked_hashes",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("reason", sa.String(256), nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
)

# Objects that no row refers to any more; written with the fact, removed once the bytes are gone.
DOOMED_OBJECTS = sa.Table(
    "doomed_objects",
    METADATA,
    sa.Column("object_key", sa.String(256), primary_key=True),
    sa.Column("create_us", sa.BigInteger, nullable=False),
)

OUTBOX = outbox_table(METADATA)
