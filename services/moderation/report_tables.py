"""The tables of reports, takedowns, strikes, and of what storage must still do because of them."""

from __future__ import annotations

import sqlalchemy as sa

from services.moderation.tables import METADATA

SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# `folding` is the same for reports of the same picture while one of them is OPEN, and the report's own id afterwards.
REPORTS = sa.Table(
    "reports",
    METADATA,
    sa.Column("report_id", sa.String(64), primary_key=True),
    sa.Column("folding", sa.String(64), nullable=False, unique=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("asset_id", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("severity", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("reporter", sa.String(256), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("due_us", sa.BigInteger, nullable=False),
    sa.Index("reports_queue", "state", "severity", "create_us", "report_id"),
    sa.Index("reports_by_content", "sha256", "state"),
)

# Who reported what, and when; for folding, and for the limits of the last hour.
REPORT_VOICES = sa.Table(
    "report_voices",
    METADATA,
    sa.Column("voice_id", sa.String(64), primary_key=True),
    sa.Column("report_id", sa.String(64), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("reporter", sa.String(256), nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Index("report_voices_by_reporter", "tenant", "reporter", "create_us"),
    sa.Index("report_voices_by_tenant", "tenant", "create_us"),
)

# `standing` is the content's hash while the takedown stands, and the takedown's own id once it is undone.
TAKEDOWNS = sa.Table(
    "takedowns",
    METADATA,
    sa.Column("takedown_id", sa.String(64), primary_key=True),
    sa.Column("standing", sa.String(64), nullable=False, unique=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("asset_id", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("legal_hold", sa.Boolean, nullable=False),
    sa.Column("restored", sa.Boolean, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
)

STRIKES = sa.Table(
    "strikes",
    METADATA,
    sa.Column("strike_id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("end_user", sa.String(256), nullable=False),
    sa.Column("verdict_id", sa.String(64), nullable=False),
    sa.Column("category", sa.String(32), nullable=False),
    sa.Column("cleared", sa.Boolean, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("expire_us", sa.BigInteger, nullable=False),
    sa.Index("strikes_by_user", "tenant", "end_user", "create_us"),
    sa.Index("strikes_by_time", "create_us", "strike_id"),
)

# What storage must do, in order for each content; a row goes when storage has done it. `claim_us`: until then one
# process is at it. `due_us`: not before.
STORAGE_ORDERS = sa.Table(
    "storage_orders",
    METADATA,
    sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("asset_id", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("detail", sa.String(256), nullable=False),
    sa.Column("due_us", sa.BigInteger, nullable=False),
    sa.Column("claim_us", sa.BigInteger, nullable=False),
    sa.Index("storage_orders_by_content", "sha256", "sequence"),
)
