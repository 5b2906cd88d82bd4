"""Orders remember which fields of the spec they left out, and at which account they were placed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Orders placed before left nothing out; their account is not known."""
    op.add_column("attempts", sa.Column("dropped", sa.Text, nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("account", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Forgets both."""
    op.drop_column("attempts", "account")
    op.drop_column("attempts", "dropped")
