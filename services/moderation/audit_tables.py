"""The audit's tables: the records, the one row that is the chain's head, and the checkpoints."""

from __future__ import annotations

import sqlalchemy as sa

from services.moderation.tables import METADATA

# SQLite keeps a table by such a key in the order of the key itself.
SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# Append only: nothing updates here but erasure, nothing deletes but the retention sweep. Sequences count from 1 with no
# gap; records from before the chain have negative ones, and no hashes. `personal`, `digest` and `chain` are lower-case
# hex SHA-256 (see `chain.py`); `erased_by` is the sequence of the record that says who erased, 0 while nobody did.
AUDIT_RECORDS = sa.Table(
    "audit_records",
    METADATA,
    sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("record_id", sa.String(64), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("end_user", sa.String(256), nullable=False),
    sa.Column("trace_id", sa.String(32), nullable=False),
    sa.Column("verdict_id", sa.String(64), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("policy_id", sa.String(64), nullable=False),
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    sa.Column("policy_etag", sa.String(32), nullable=False),
    sa.Column("model_versions", sa.JSON, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("asset_id", sa.String(64), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("salt", sa.String(32), nullable=False),
    sa.Column("personal", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("chain", sa.String(64), nullable=False),
    sa.Column("erased_by", sa.BigInteger, nullable=False),
    sa.Index("audit_by_tenant", "tenant", "sequence"),
    sa.Index("audit_by_user", "tenant", "end_user"),
    sa.Index("audit_by_verdict", "verdict_id"),
)

# One row, locked by every append. Records up to `cut_sequence` were removed by retention; `cut_chain` is the chain's
# value there, and `cut_by` the sequence of the record that says so.
AUDIT_HEAD = sa.Table(
    "audit_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("chain", sa.String(64), nullable=False),
    sa.Column("cut_sequence", sa.BigInteger, nullable=False),
    sa.Column("cut_chain", sa.String(64), nullable=False),
    sa.Column("cut_by", sa.BigInteger, nullable=False),
)

# `stored` is 0 until the checkpoint lies in the store of checkpoints too.
AUDIT_CHECKPOINTS = sa.Table(
    "audit_checkpoints",
    METADATA,
    sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=False),
    sa.Column("chain", sa.String(64), nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("stored", sa.Integer, nullable=False),
    sa.Index("audit_checkpoints_to_store", "stored", "sequence"),
)
