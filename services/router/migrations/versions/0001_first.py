"""The first schema: jobs and their queue, attempts, ledger, cache, keys, outbox."""

from alembic import op

from services.router.tables import lanes, metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates every table."""
    metadata.create_all(op.get_bind())
    op.bulk_insert(lanes, [{"lane": "INTERACTIVE", "served": 0}, {"lane": "BATCH", "served": 0}])
