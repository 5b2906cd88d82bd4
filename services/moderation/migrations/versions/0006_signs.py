"""How surely a prompt is sexual and refers to a minor, for the pictures that are drawn from it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("sexual", "minor"):
        op.add_column("verdicts", sa.Column(name, sa.Float(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("sexual", "minor"):
        op.drop_column("verdicts", name)
