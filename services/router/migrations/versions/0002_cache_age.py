"""Results in the cache are forgotten in the order of their age."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lets the sweep find the oldest entries."""
    op.create_index("cache_entries_by_age", "cache_entries", ["create_time"])


def downgrade() -> None:
    """Drops the index."""
    op.drop_index("cache_entries_by_age", table_name="cache_entries")
