"""What an account has bought of a model since the month began is counted without reading every order."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets volume tiers find an account's orders."""
    op.create_index("attempts_bought", "attempts", ["provider", "account", "model", "start_time"])


def downgrade() -> None:
    """Drops the index."""
    op.drop_index("attempts_bought", table_name="attempts")
