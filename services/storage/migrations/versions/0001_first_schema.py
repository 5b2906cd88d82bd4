"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _assets()
    _originals()
    _renditions()
    _blocked_hashes()
    _doomed_objects()
    _outbox()


def _assets() -> None:
    op.create_table(
        "assets",
        sa.Column("asset_id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("object_key", sa.String(256), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("attempt_id", sa.String(64), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("provider", sa.String(128), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("model_version", sa.String(256), nullable=False),
        sa.Column("provider_request_id", sa.String(256), nullable=False),
        sa.Column("prompt_hash", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("steps", sa.Integer()),
        sa.Column("guidance", sa.Float(53)),
        sa.Column("source_asset_id", sa.String(64), nullable=False),
        sa.Column("verdict_id", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("hold", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("update_us", sa.BigInteger(), nullable=False),
        sa.Column("publish_us", sa.BigInteger()),
    )
    op.create_index("assets_by_content", "assets", ["sha256", "tenant"])
    op.create_index("assets_by_job", "assets", ["tenant", "job_id"])
    op.create_index("assets_by_time", "assets", ["tenant", "create_us", "asset_id"])


def _originals() -> None:
    op.create_table(
        "originals",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("object_key", sa.String(256), nullable=False, unique=True),
    )


def _renditions() -> None:
    op.create_table(
        "renditions",
        sa.Column("original_key", sa.String(256), primary_key=True),
        sa.Column("spec_key", sa.String(64), primary_key=True),
        sa.Column("object_key", sa.String(256), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )


def _blocked_hashes() -> None:
    op.create_table(
        "blocked_hashes",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("reason", sa.String(256), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )


def _doomed_objects() -> None:
    op.create_table(
        "doomed_objects",
        sa.Column("object_key", sa.String(256), primary_key=True),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("traceparent", sa.String(64), nullable=False),
        sa.Column("tracestate", sa.String(512), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("outbox")
    op.drop_table("doomed_objects")
    op.drop_table("blocked_hashes")
    op.drop_table("renditions")
    op.drop_table("originals")
    op.drop_table("assets")
