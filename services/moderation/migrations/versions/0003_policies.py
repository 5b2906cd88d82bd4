"""Policies stored in versions, their shadow verdicts, and prompts exempted by a won appeal."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _policies()
    _shadow_verdicts()
    _prompt_exemptions()
    # The caller's wish to be stricter; verdicts from before this were mostly given without one.
    op.add_column("verdicts", sa.Column("safety", sa.String(256), nullable=False, server_default="0:"))
    op.create_index("audit_by_verdict", "audit_records", ["verdict_id"])
    op.create_index("verdicts_by_time", "verdicts", ["create_us", "verdict_id"])


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("policy_id", sa.String(64), primary_key=True),
        sa.Column("version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("policies_by_state", "policies", ["state", "tenant"])
    version = op.create_table(
        "policies_version",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(version, [{"id": 1, "version": 1}])


def _shadow_verdicts() -> None:
    op.create_table(
        "shadow_verdicts",
        sa.Column("verdict_id", sa.String(64), primary_key=True),
        sa.Column("policy_id", sa.String(64), primary_key=True),
        sa.Column("policy_version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("before", sa.String(16), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )
    op.create_index("shadow_verdicts_by_policy", "shadow_verdicts", ["policy_id", "policy_version", "create_us"])


def _prompt_exemptions() -> None:
    op.create_table(
        "prompt_exemptions",
        sa.Column("tenant", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("policy_id", sa.String(64), primary_key=True),
        sa.Column("policy_version", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
    )
