"""The audit's hash chain and its checkpoints. Records from before get negative sequences, the newest -1."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

GENESIS = "e8f700b16181b2fa9f7789733565234f1d9d43c73c3503bf4a7bcd41498e0de0"  # SHA-256 of `imagemesh audit chain 1`
SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
KEPT = (
    "record_id, tenant, action, actor, end_user, trace_id, verdict_id, decision, scores, policy_id, policy_version, "
    "policy_etag, model_versions, sha256, length, job_id, asset_id, create_us"
)


def upgrade() -> None:
    op.drop_index("audit_by_tenant", "audit_records")
    op.rename_table("audit_records", "audit_records_unchained")
    _audit_records()
    op.execute(
        f"INSERT INTO audit_records (sequence, {KEPT}, text, note, salt, personal, digest, chain, erased_by)"
        f" SELECT -row_number() OVER (ORDER BY create_us DESC, record_id DESC), {KEPT}, '', '', '', '', '', '', 0"
        " FROM audit_records_unchained"
    )
    op.drop_table("audit_records_unchained")
    _audit_head()
    _audit_checkpoints()


def _audit_records() -> None:
    op.create_table(
        "audit_records",
        sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("record_id", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("end_user", sa.String(256), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("verdict_id", sa.String(64), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("policy_id", sa.String(64), nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("policy_etag", sa.String(32), nullable=False),
        sa.Column("model_versions", sa.JSON(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("asset_id", sa.String(64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("salt", sa.String(32), nullable=False),
        sa.Column("personal", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("erased_by", sa.BigInteger(), nullable=False),
    )
    op.create_index("audit_by_tenant", "audit_records", ["tenant", "sequence"])
    op.create_index("audit_by_user", "audit_records", ["tenant", "end_user"])


def _audit_head() -> None:
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("cut_sequence", sa.BigInteger(), nullable=False),
        sa.Column("cut_chain", sa.String(64), nullable=False),
        sa.Column("cut_by", sa.BigInteger(), nullable=False),
    )
    nothing = {"id": 1, "sequence": 0, "chain": GENESIS, "cut_sequence": 0, "cut_chain": GENESIS, "cut_by": 0}
    op.bulk_insert(head, [nothing])


def _audit_checkpoints() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("sequence", SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("chain", sa.String(64), nullable=False),
        sa.Column("create_us", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
    )
    op.create_index("audit_checkpoints_to_store", "audit_checkpoints", ["stored", "sequence"])
