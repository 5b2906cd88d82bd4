"""The tables of reviews and appeals."""

from __future__ import annotations

import sqlalchemy as sa

from services.moderation.tables import METADATA

# One row for what a person must decide. `topic` is what it is about: asking again about the same finds the same row.
# A row is OPEN until it is DECIDED or EXPIRED; it is claimed while `claim_us` is in the future. `outcome_id` is the
# verdict that then stands. `text` is emptied with the end.
REVIEWS = sa.Table(
    "reviews",
    METADATA,
    sa.Column("review_id", sa.String(64), primary_key=True),
    sa.Column("topic", sa.String(64), nullable=False, unique=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("cause", sa.String(16), nullable=False),
    sa.Column("severity", sa.Integer, nullable=False),
    sa.Column("categories", sa.String(512), nullable=False),
    sa.Column("verdict_id", sa.String(64), nullable=False),
    sa.Column("asset_id", sa.String(64), nullable=False),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("about", sa.String(64), nullable=False),
    sa.Column("end_user", sa.String(256), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("reviewer", sa.String(64), nullable=False),
    sa.Column("claim_us", sa.BigInteger, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("outcome_id", sa.String(64), nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("due_us", sa.BigInteger, nullable=False),
    sa.Column("decide_us", sa.BigInteger, nullable=False),
    sa.Index("reviews_queue", "state", "severity", "create_us", "review_id"),
    sa.Index("reviews_by_end", "state", "cause", "due_us"),
    sa.Index("reviews_by_user", "tenant", "end_user"),
)

# At most one for each verdict, since the id derives from it.
APPEALS = sa.Table(
    "appeals",
    METADATA,
    sa.Column("appeal_id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("verdict_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("reviewer", sa.String(64), nullable=False),
    sa.Column("end_user", sa.String(256), nullable=False),
    sa.Column("create_us", sa.BigInteger, nullable=False),
    sa.Column("decide_us", sa.BigInteger, nullable=False),
    sa.Index("appeals_by_time", "create_us", "appeal_id"),
    sa.Index("appeals_by_user", "tenant", "end_user"),
)
