"""Reviews and appeals."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _reviews()
    _appeals()


def _reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("review_id", sa.String(64), primary_key=True),
        sa.Column("topic", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("categories", sa.String(512), nullable=False),
        sa.Column("verdict_id", sa.String(64), nullable=False),
        sa.Column("asset_id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("about", sa.String(64), nullable=False),
        sa.Column("end_user", sa.String(256), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.String(64), nullable=False),
        sa.Column("claim_us", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("outcome_id", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("decide_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("reviews_queue", "reviews", ["state", "severity", "create_us", "review_id"])
    op.create_index("reviews_by_end", "reviews", ["state", "cause", "due_us"])
    op.create_index("reviews_by_user", "reviews", ["tenant", "end_user"])


def _appeals() -> None:
    op.create_table(
        "appeals",
        sa.Column("appeal_id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("verdict_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("reviewer", sa.String(64), nullable=False),
        sa.Column("end_user", sa.String(256), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("decide_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("appeals_by_time", "appeals", ["create_us", "appeal_id"])
    op.create_index("appeals_by_user", "appeals", ["tenant", "end_user"])
