"""The tables that moderation owns. All times are microseconds since 1970-01-01 UTC, by the database's clock."""

from __future__ import annotations

import sqlalchemy as sa

from mesh.outbox import outbox_table

METADATA = sa.MetaData()
VERSION_TABLE = "moderation_schema"

VERDICTS = sa.Table(
    "verdicts",
    METADATA,
    sa.Column("verdict_id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(16), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("layer", sa.String(64), nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("not_evaluated", sa.JSON, nullable=False),
    sa.Column("policy_id", sa.String(64), nullable=False),
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("asset_id", sa.String(64), nullable=False),
    sa.Column("end_user", sa.String(256), nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("safety", sa.String(256), nullable=False, server_default="0:"),
    sa.Column("sexual", sa.Float, nullable=False, server_default="0"),
    sa.Column("minor", sa.Float, nullable=False, server_default="0"),
    sa.Index("verdicts_by_job", "tenant", "job_id"),
    sa.Index("verdicts_by_sha256", "sha256"),
    sa.Index("verdicts_by_time", "create_us", "verdict_id"),
)

# `phash` holds the 64 bits as 16 hex digits; empty where only the exact bytes are blocked.
BLOCKED_HASHES = sa.Table(
    "blocked_hashes",
    METADATA,
    sa.Column("hash_id", sa.String(64), primary_key=True),
    sa.Column("category", sa.String(32), nullable=False),
    sa.Column("phash", sa.String(16), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
)

# One row. Each change of `blocked_hashes` counts it up in the same transaction, so that a verdict can be stored only
# under the version of the table that it was judged by.
BLOCKLIST_VERSION = sa.Table(
    "blocklist_version",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)

OUTBOX = outbox_table(METADATA)
