"""Reports, takedowns, strikes, and what storage must still do because of them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _reports()
    _report_voices()
    _takedowns()
    _strikes()
    _storage_orders()


def _reports() -> None:
    op.create_table(
        "reports",
        sa.Column("report_id", sa.String(64), primary_key=True),
        sa.Column("folding", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("asset_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("reporter", sa.String(256), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("reports_queue", "reports", ["state", "severity", "create_us", "report_id"])
    op.create_index("reports_by_content", "reports", ["sha256", "state"])


def _report_voices() -> None:
    op.create_table(
        "report_voices",
        sa.Column("voice_id", sa.String(64), primary_key=True),
        sa.Column("report_id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("reporter", sa.String(256), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("report_voices_by_reporter", "report_voices", ["tenant", "reporter", "create_us"])
    op.create_index("report_voices_by_tenant", "report_voices", ["tenant", "create_us"])


def _takedowns() -> None:
    op.create_table(
        "takedowns",
        sa.Column("takedown_id", sa.String(64), primary_key=True),
        sa.Column("standing", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("asset_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("legal_hold", sa.Boolean(), nullable=False),
        sa.Column("restored", sa.Boolean(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )


def _strikes() -> None:
    op.create_table(
        "strikes",
        sa.Column("strike_id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("end_user", sa.String(256), nullable=False),
        sa.Column("verdict_id", sa.String(64), nullable=False),
        sa.Column("category", sa.String(32), nullable=False),
        sa.Column("cleared", sa.Boolean(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("expire_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("strikes_by_user", "strikes", ["tenant", "end_user", "create_us"])
    op.create_index("strikes_by_time", "strikes", ["create_us", "strike_id"])


def _storage_orders() -> None:
    counted = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "storage_orders",
        sa.Column("sequence", counted, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("asset_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("detail", sa.String(256), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("claim_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("storage_orders_by_content", "storage_orders", ["sha256", "sequence"])
